"""Celery beat's daily job: back up the tenants, then the servers whose WAL is archived, then prune."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from audit.control.models import ControlAuditLog
from audit.log.entries import record
from config.base.databases import CONTROL
from config.base.errors import SeoGenError
from tenants.backup.backup import tenant_backup
from tenants.errors import JobBusy
from tenants.models import DatabaseServer
from tenants.operations import advisory_lock
from tenants.pitr.base_backup import cluster_backup
from tenants.retention.prune import backup_prune

LOCK = "seo-gen:backup-daily"
ACTION = "backup.daily"
# A daily backup that finished more recently than this counts as today's, even if BACKUP_DAILY_HOUR has changed since.
ONCE_WITHIN = timedelta(hours=12)


def _busy() -> JobBusy:
    return JobBusy(_("Another process is making the daily backup."))


def backup_daily() -> list[str]:
    """Back up all active and suspended tenants and the servers, then prune; return the failures as messages.

    Tenants and their files go to BACKUP_DAILY_OUTPUT. Servers whose WAL is archived get a base backup in
    CLUSTER_BACKUP_OUTPUT.

    Does nothing if BACKUP_DAILY_OUTPUT is not set, or if a daily backup finished within the last 12 hours: the task
    message may be delivered twice, or come from anyone who can write to the broker. A killed job records no end, so it
    runs again. Raises `JobBusy` if another process is running it, and `PlaceError` or `SealError` if the output
    or the recipient in the settings is invalid.
    """
    with advisory_lock(LOCK, wait_s=1, busy=_busy):
        if not _is_due():
            return []
        outcomes = tenant_backup(tenant_id=None, output=settings.BACKUP_DAILY_OUTPUT, with_storage=True)
        failed = [outcome.problem for outcome in outcomes if outcome.backup is None]
        failed += _servers()
        failed += [one.problem for one in backup_prune() if one.problem]
        _record_end(tenants=len(outcomes), failed=len(failed))
        return failed


def _is_due() -> bool:
    recent = ControlAuditLog.objects.using(CONTROL).filter(action=ACTION, created_at__gt=Now() - ONCE_WITHIN)
    return bool(settings.BACKUP_DAILY_OUTPUT) and not recent.exists()


def _record_end(*, tenants: int, failed: int) -> None:
    with transaction.atomic(using=CONTROL):
        details: dict[str, object] = {"tenants": tenants, "failed": failed}
        record(using=CONTROL, action=ACTION, resource_type="backup", resource_id="*", details=details)


def _servers() -> list[str]:
    failed = []
    for server in DatabaseServer.objects.using(CONTROL).exclude(wal_archive="", wal_restore_command=""):
        try:
            cluster_backup(server_name=server.name)
        except SeoGenError as error:
            failed.append(str(error.message))
    return failed
