"""Erasing a tenant: everything of it goes, its audit log stays, and nobody else notices."""

from __future__ import annotations

from pathlib import Path

from tenants.models import Tenant, TenantStatus
from tenants.services import backup_prune, erasures_verify, tenant_delete
from tests.tenants.filled import add_run
from tests.tenants.test_create import objects_named_like
from tests.tenants.test_restore import back_up


def test_it_is_gone(tenant: Tenant, tmp_path: Path) -> None:
    add_run(tenant)
    back_up(tenant, tmp_path)
    row = tenant_delete(tenant_id=tenant.id)
    assert row.certificate is not None
    tenant.refresh_from_db()
    assert tenant.status == TenantStatus.DELETED
    assert objects_named_like(tenant.id) == []
    assert tenant_delete(tenant_id=tenant.id).digest == row.digest
    print(erasures_verify(tenant_id=tenant.id))
    print(backup_prune())
    print(erasures_verify(tenant_id=tenant.id))
