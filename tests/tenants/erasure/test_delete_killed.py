"""Kill a deletion with `kill -9` at each step and at random, then continue: it ends the same, with one certificate."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache

from audit.control.models import AuditArchive, ControlAuditLog
from audit.log.archive import archive_problem
from tenants.erasure.cache import cache_key
from tenants.erasure.delete import tenant_delete
from tenants.erasure.verify import erasures_verify
from tenants.errors import TenantError, TenantNotActive
from tenants.files import tenant_storage
from tenants.lifecycle.suspend import tenant_suspend
from tenants.models import Erasure, OperationStatus, Tenant, TenantOperation, TenantStatus
from tenants.restore.restore import tenant_restore
from tenants.routing.context import tenant_context
from tenants.transfer.export import tenant_export
from tenants.unfinished import tenant_recover
from tests.support.tenant_fixtures import MakeTenant
from tests.tenants.support.backups import back_up
from tests.tenants.support.canaries import add_messages
from tests.tenants.support.created import tenants_objects
from tests.tenants.support.erased import forget_erasure
from tests.tenants.support.filled import add_run, everything_of
from tests.tenants.support.killed import begun, die_at, files_in

pytestmark = [pytest.mark.chaos, pytest.mark.usefixtures("forgotten")]

STEPS = [
    *("close", "mark", "archive", "list", "storage", "backups", "messages", "databases", "roles"),
    *("certificate", "done"),
]
# `make chaos` runs more of them.
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "2"))
# What differs between the erasures of two similar tenants.
VOLATILE = {
    *("certificate", "tenant_id", "identity", "requested_at", "requested_by", "completed_at", "until", "sha256"),
    *("list_sha256", "head_hash", "digest", "operators_entries", "restore_point", "wal_until_lsn", "id", "file"),
    *("wal_until_segment", "made_at", "name", "place", "roles", "base_backups", "size_bytes"),
}


def fill(tenant: Tenant, folder: Path) -> None:
    """Give the tenant a run, a backup, an export, a replaced database, messages and a cache key."""
    add_run(tenant)
    file = back_up(tenant, folder)
    tenant_export(tenant_id=tenant.id, output=str(folder / "bundle.tar"))
    tenant_restore(tenant_id=tenant.id, backup_file=file)
    add_messages((tenant, "x"))
    cache.set(cache_key(tenant.id, "x"), 1)


def steady(document: Any) -> Any:
    """Return the certificate without the values that differ from one certificate to the next."""
    if isinstance(document, dict):
        return {name: steady(value) for name, value in document.items() if name not in VOLATILE}
    return [steady(one) for one in document] if isinstance(document, list) else document


def assert_erased(tenant: Tenant, folder: Path, neighbour: Tenant, before: object) -> Erasure:
    """Check the end state of a deletion that `recover` or a second call has continued; return its row in the ledger."""
    assert tenant_recover() == []
    row = Erasure.objects.get(tenant_id=tenant.id)  # there is one
    assert row.certificate is not None
    assert [one.problems for one in erasures_verify(tenant_id=tenant.id)] == [[]]
    assert tenants_objects(row.database) == [] and list(tenant_storage.versions_of(tenant.id)) == []
    assert files_in(folder) == []
    assert cache.get(cache_key(tenant.id, "x")) is None
    archive = AuditArchive.objects.get(identity=tenant.identity)
    assert archive_problem(archive) == "" and archive.first_bad is None
    entries = ControlAuditLog.objects.filter(resource_id=tenant.id)
    assert entries.filter(action="tenant.delete.complete").count() == 1
    assert entries.filter(action="audit.archive").count() == 1
    tenant.refresh_from_db()
    assert (tenant.status, tenant.database_url) == (TenantStatus.DELETED, "")
    assert everything_of(neighbour) == before
    return row


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the certificate of a similar tenant whose deletion was not interrupted."""
    from tenants.lifecycle.create import tenant_create

    tenant = tenant_create(name="undisturbed")
    fill(tenant, tmp_path_factory.mktemp("undisturbed"))
    row = tenant_delete(tenant_id=tenant.id)
    certificate = row.certificate
    forget_erasure(row)
    return certificate


@pytest.mark.parametrize(
    ("step", "again"), [(step, ("recover", "the same command")[number % 2]) for number, step in enumerate(STEPS)]
)
def test_killed_at_a_step(make_tenant: MakeTenant, undisturbed: Any, tmp_path: Path, step: str, again: str) -> None:
    tenant, neighbour = make_tenant(), make_tenant()
    add_run(neighbour)
    before = everything_of(neighbour)
    fill(tenant, tmp_path)
    die_at(step, "tenant_delete", tenant_id=tenant.id)
    if step != "done":
        assert TenantOperation.objects.get(tenant_id=tenant.id, kind="delete").status == OperationStatus.RUNNING
    # No one can reach the tenant, neither during the deletion nor afterwards.
    with pytest.raises(TenantNotActive):
        tenant_context(tenant).__enter__()
    with pytest.raises(TenantError):
        tenant_suspend(tenant_id=tenant.id)
    if again == "recover":
        expected = [] if step == "done" else [(tenant.id, "delete", "finished")]
        assert [(one.tenant_id, one.kind, one.outcome) for one in tenant_recover()] == expected
    else:
        tenant_delete(tenant_id=tenant.id)
    row = assert_erased(tenant, tmp_path, neighbour, before)
    assert steady(row.certificate) == steady(undisturbed)


def test_killed_at_random_moments_until_finished(make_tenant: MakeTenant, tmp_path: Path) -> None:
    """The kill may hit a statement, a removal, or a write to the control database."""
    chance = random.Random(os.environ.get("CHAOS_SEED", "5"))
    neighbour = make_tenant()
    before = everything_of(neighbour)
    for _ in range(ROUNDS):
        tenant = make_tenant()
        fill(tenant, tmp_path)
        for _attempt in range(3):
            with begun("tenant_delete", tenant_id=tenant.id) as process:
                time.sleep(chance.uniform(0, 0.4))
                process.kill()
            if Tenant.objects.get(pk=tenant.pk).status == TenantStatus.DELETED:
                break
        tenant_recover()
        assert_erased(tenant, tmp_path, neighbour, before)
