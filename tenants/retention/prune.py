"""Remove expired backups, replaced databases, base backups and archived WAL, and what is left of erased tenants."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from audit.log.entries import record
from config.base.databases import CONTROL
from config.base.errors import SeoGenError
from tenants.backup.backup_files import names_of
from tenants.files import tenant_storage
from tenants.files.locations import place_at
from tenants.files.tenant_storage import KEPT, objects_of, prefix_of
from tenants.models import Backup, BackupKind, BackupStatus, Restore, database_prefix
from tenants.naming import work_name
from tenants.operations import tenant_lock
from tenants.pitr.dead_rows import superseded_remove
from tenants.pitr.prune import cluster_backups_prune
from tenants.selectors import tenant_get
from tenants.servers.restore_points import restore_point
from tenants.servers.session import ServerSession


@dataclass(frozen=True)
class PrunedItem:
    """One item that was removed (or would be, with `dry_run`), or the problem that prevented it."""

    # "" if the item belongs to a server.
    tenant_id: str
    # One of "backup", "replaced database", "base backup", "archived log" and "superseded rows".
    kind: str
    what: str
    problem: str = ""


def backup_prune(*, days: int | None = None, dry_run: bool = False) -> list[PrunedItem]:
    """Remove backups older than `days` (None: BACKUP_RETENTION_DAYS), and expired replaced databases.

    Also removes servers' base backups and archived WAL according to CLUSTER_BACKUP_RETENTION_DAYS, and the data of
    erased tenants that is left in the control database's files. A dry run leaves out both.

    A tenant's newest completed backup is never removed, and neither are exports, which someone asked for explicitly.
    Failures are reported; the next call tries again.
    """
    pruned = _prune_backups(settings.BACKUP_RETENTION_DAYS if days is None else days, dry_run) + _prune_kept(dry_run)
    return pruned if dry_run else pruned + _prune_superseded() + _prune_clusters()


def _prune_backups(days: int, dry_run: bool) -> list[PrunedItem]:
    completed = Backup.objects.using(CONTROL).filter(status=BackupStatus.COMPLETED, kind=BackupKind.BACKUP)
    newest = completed.order_by("tenant_id", "-started_at").distinct("tenant_id").values_list("pk", flat=True)
    old = completed.filter(started_at__lt=timezone.now() - timedelta(days=days)).exclude(pk__in=list(newest))
    return [
        PrunedItem(backup.tenant_id, "backup", f"{backup.place}/{backup.name}", "" if dry_run else _try(backup))
        for backup in old.order_by("started_at")
    ]


def _try(backup: Backup) -> str:
    try:
        backup_remove(backup)
    except SeoGenError as error:
        return str(error.message)
    return ""


def backup_remove(backup: Backup) -> None:
    """Remove a backup's files, manifest first, then update its record. Raises `PlaceError`. Safe to repeat.

    The audit entry is written first: file removal is not transactional, and no file may disappear unrecorded.
    """
    place = place_at(backup.place)
    with transaction.atomic(using=CONTROL):
        record(
            using=CONTROL,
            action="backup.remove",
            resource_type="tenant",
            resource_id=backup.tenant_id,
            details={"backup": str(backup.pk), "place": backup.place, "file": backup.name},
        )
    for name in names_of(backup):
        place.remove(name)
    Backup.objects.using(CONTROL).filter(pk=backup.pk).update(status=BackupStatus.REMOVED, removed_at=Now())


def _prune_superseded() -> list[PrunedItem]:
    if superseded_remove():
        return []
    return [
        PrunedItem(
            "",
            "superseded rows",
            "",
            _(
                "Old row versions about erased tenants remain in the control database: a table was in use, an open"
                " transaction can still see the row versions, or the database role lacks the privilege to rewrite the"
                " tables. The next prune or base backup will try again."
            ),
        )
    ]


def _prune_clusters() -> list[PrunedItem]:
    servers = cluster_backups_prune()
    problems = [PrunedItem("", "base backup", f"{one.server}/…", one.problem) for one in servers if one.problem]
    removed = [PrunedItem("", "base backup", f"{one.server}/{name}") for one in servers for name in one.backups]
    segments = [
        PrunedItem(
            "",
            "archived log",
            ngettext("%(count)d segment of %(server)s", "%(count)d segments of %(server)s", one.wal_segments)
            % {"count": one.wal_segments, "server": one.server},
        )
        for one in servers
        if one.wal_segments
    ]
    return problems + removed + segments


def _prune_kept(dry_run: bool) -> list[PrunedItem]:
    expired = Restore.objects.using(CONTROL).filter(kept_until__lt=Now())
    return [PrunedItem(row.tenant_id, "replaced database", row.kept, "" if dry_run else _drop(row)) for row in expired]


def _drop(row: Restore) -> str:
    try:
        with tenant_lock(row.tenant_id):
            row.refresh_from_db(using=CONTROL)
            if row.kept_until is not None:
                kept_drop(row)
    except SeoGenError as error:
        return str(error.message)
    return ""


def kept_drop(row: Restore) -> None:
    """Drop the database that a restore replaced, and remove the files that it set aside. Safe to repeat.

    The caller must hold the tenant's lock. The audit entry is written first, as in `backup_remove`.
    """
    tenant = tenant_get(row.tenant_id)
    with transaction.atomic(using=CONTROL):
        record(
            using=CONTROL,
            action="tenant.kept.remove",
            resource_type="tenant",
            resource_id=tenant.id,
            details={"operation": str(row.pk), "kept": row.kept},
        )
    if tenant.server is not None:
        # Dropping a database deletes files, which is not transactional: unless something is committed first, recovery
        # to just before the drop would still lose the files.
        restore_point(tenant.server, reason="prune", tenant_id=tenant.id)
        with ServerSession(tenant.server, database_prefix(), work_name("prune", tenant.identity)) as server_session:
            server_session.drop_database(row.kept)
    aside = f"{prefix_of(tenant.id)}{KEPT}/{row.pk}/"
    tenant_storage.remove([one.path for one in objects_of(tenant.id, kept=True) if one.path.startswith(aside)])
    Restore.objects.using(CONTROL).filter(pk=row.pk).update(kept_until=None)
