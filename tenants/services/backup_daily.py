"""What Celery beat has done every day: all tenants backed up, and what is past its time removed."""

from __future__ import annotations

from django.conf import settings

from tenants.errors import TenantBusy
from tenants.operations import advisory_lock
from tenants.services.backup import tenant_backup
from tenants.services.backup_prune import backup_prune

LOCK = "seo-gen:backup-daily"


def backup_daily() -> list[str]:
    """Back up every tenant with its files to BACKUP_DAILY_OUTPUT, then prune; return one sentence for each failure.

    Raises `TenantBusy` where another process is at it.
    """
    with advisory_lock(LOCK, wait="1s", busy=lambda: TenantBusy("*", "daily backup")):
        outcomes = tenant_backup(tenant_id=None, output=settings.BACKUP_DAILY_OUTPUT, with_storage=True)
        failed = [outcome.problem for outcome in outcomes if outcome.backup is None]
        return failed + [one.problem for one in backup_prune() if one.problem]
