"""What Celery beat has done every day: all tenants and servers backed up, and what is past its time removed."""

from __future__ import annotations

from django.conf import settings

from config.errors import SeoGenError
from tenants.errors import TenantBusy
from tenants.models import DatabaseServer
from tenants.operations import advisory_lock
from tenants.router import CONTROL
from tenants.services.backup import tenant_backup
from tenants.services.backup_prune import backup_prune
from tenants.services.cluster_backup import cluster_backup

LOCK = "seo-gen:backup-daily"


def backup_daily() -> list[str]:
    """Back up every tenant with its files to BACKUP_DAILY_OUTPUT, then servers, then prune; return every failure.

    Of the servers those whose log is archived: base backups to CLUSTER_BACKUP_OUTPUT. One sentence for each failure.
    Raises `TenantBusy` where another process is at it.
    """
    with advisory_lock(LOCK, wait="1s", busy=lambda: TenantBusy("*", "daily backup")):
        outcomes = tenant_backup(tenant_id=None, output=settings.BACKUP_DAILY_OUTPUT, with_storage=True)
        failed = [outcome.problem for outcome in outcomes if outcome.backup is None]
        failed += _servers()
        return failed + [one.problem for one in backup_prune() if one.problem]


def _servers() -> list[str]:
    failed = []
    for server in DatabaseServer.objects.using(CONTROL).exclude(wal_archive="", wal_restore_command=""):
        try:
            cluster_backup(server_name=server.name)
        except SeoGenError as error:
            failed.append(str(error.message))
    return failed
