"""What staff see of backups and restores."""

from __future__ import annotations

from pathlib import Path

from django.test import Client

from tenants.backup.backup import tenant_backup
from tenants.models import Backup, Restore, Tenant
from tenants.restore.restore import tenant_restore
from tests.tenants.support.filled import add_run


def test_a_backup_and_a_restore_have_pages(browser: Client, tenant: Tenant, tmp_path: Path) -> None:
    [outcome] = tenant_backup(tenant_id=tenant.id, output=str(tmp_path))
    assert outcome.backup is not None
    lost = add_run(tenant)
    report = tenant_restore(tenant_id=tenant.id, backup_file=f"{tmp_path}/{outcome.backup.name}")
    backup, restore = Backup.objects.get(tenant_id=tenant.id), Restore.objects.get(pk=report.operation_id)
    for language in ("en", "ja"):
        headers = {"accept-language": language}
        page = browser.get(f"/admin/tenants/backup/{backup.pk}/change/", headers=headers).content.decode()
        assert backup.name in page and tenant.schema_version in page
        page = browser.get(f"/admin/tenants/restore/{restore.pk}/change/", headers=headers).content.decode()
        assert str(lost) in page and backup.name in page and f"{report.unavailable_ms} " in page
    listed = browser.get(f"/admin/tenants/backup/?q={tenant.id}").content.decode()
    assert listed.count(str(backup.pk)) >= 1
