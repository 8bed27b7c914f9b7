"""Remove expired base backups, and archived WAL that no base backup needs any longer."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext as _

from audit.log.entries import record
from config.base.databases import CONTROL
from tenants.errors import ServerError
from tenants.files.locations import Folder, Place, PlaceError, place_at, reason_of_place
from tenants.models import BackupStatus, BaseBackup, DatabaseServer, RestorePoint
from tenants.pitr.base_backup import server_lock
from tenants.pitr.base_backup_files import BaseBackupError, chain, completed, files_removed, remove
from tenants.pitr.wal_archive import Archive, wal_archive_read

DAY_S = 86_400


@dataclass(frozen=True)
class PrunedServer:
    """The base backups and WAL segments that were removed for one server.

    If there is a problem, none are listed, although some may have been removed.
    """

    server: str
    # Names of base backups.
    backups: list[str]
    wal_segments: int
    # Why something could not be removed, as a sentence; "" otherwise.
    problem: str = ""


def cluster_backups_prune() -> list[PrunedServer]:
    """Remove base backups older than CLUSTER_BACKUP_RETENTION_DAYS, and archived WAL that kept ones do not need.

    Each server's newest base backup is kept, and so are backups that a kept one builds on. If a server has no base
    backup, its expired WAL is removed from a folder, but not from a bucket. An archive managed by another tool is left
    to that tool. Restore points before the oldest base backup are deleted too. Servers whose base backups are
    being made, read or removed are skipped this time. A server whose files cannot be read or removed does not stop the
    others: it is returned with the problem.
    """
    pruned = []
    for server in DatabaseServer.objects.using(CONTROL).order_by("name"):
        with suppress(ServerError, BaseBackupError):
            try:
                pruned.append(_prune(server))
            except PlaceError as error:
                pruned.append(PrunedServer(server.name, [], 0, str(error.message)))
            except OSError as error:
                reason = _("Files of database server %(name)s cannot be removed: %(reason)s.")
                found = {"name": server.name, "reason": reason_of_place(error)}
                pruned.append(PrunedServer(server.name, [], 0, reason % found))
    return pruned


def _prune(server: DatabaseServer) -> PrunedServer:
    with server_lock(server), files_removed(server):
        names = [backup.name for backup in _expired(server)]
        for backup in _expired(server):
            _remove(backup)
        _forget_restore_points(server)
        return PrunedServer(server.name, names, _remove_wal(server))


def _expired(server: DatabaseServer) -> list[BaseBackup]:
    """Return the removable backups, newest first, so that none outlives the backup that it builds on."""
    backups = list(completed(server))
    oldest = timezone.now() - timedelta(days=settings.CLUSTER_BACKUP_RETENTION_DAYS)
    kept = [backup for backup in backups if backup.finished_at and backup.finished_at >= oldest] or backups[-1:]
    needed = {link.pk for backup in kept for link in chain(backup)}
    return [backup for backup in reversed(backups) if backup.pk not in needed]


def _remove(backup: BaseBackup) -> None:
    """Record the removal, remove the files, then update the status; after an interruption, all of this is repeated."""
    with transaction.atomic(using=CONTROL):
        record(
            using=CONTROL,
            action="cluster.backup.remove",
            resource_type="base_backup",
            resource_id=str(backup.pk),
            details={"server": backup.server_id, "path": place_at(backup.place).path(backup.name)},
        )
    remove(backup)
    BaseBackup.objects.using(CONTROL).filter(pk=backup.pk).update(status=BackupStatus.REMOVED, removed_at=Now())


def _forget_restore_points(server: DatabaseServer) -> None:
    """Delete restore points older than the oldest base backup; no restore can reach them."""
    oldest = completed(server).first()
    if oldest is not None:
        RestorePoint.objects.using(CONTROL).filter(server=server, created_at__lt=oldest.finished_at).delete()


def _first_needed(server: DatabaseServer, place: Place, archive: Archive) -> int:
    """Return the number of the first segment that a base backup needs.

    Without base backups, return 0 for a bucket, and for a folder the number of the first unexpired segment (or else of
    the last one, or 0 if there is none).
    """
    kept = [archive.number_of(backup.start_lsn) for backup in completed(server)]
    if kept:
        return min(kept)
    oldest = time.time() - settings.CLUSTER_BACKUP_RETENTION_DAYS * DAY_S
    if isinstance(place, Folder):
        for segment in archive.segments:
            if (Path(place.url) / segment.name).stat().st_mtime >= oldest:
                return segment.number
        return archive.segments[-1].number if archive.segments else 0
    return 0


def _remove_wal(server: DatabaseServer) -> int:
    """Remove archived WAL that is no longer needed; return the number of removed segments."""
    if not server.wal_archive:
        return 0
    place = place_at(server.wal_archive)
    archive = wal_archive_read(place)
    first = _first_needed(server, place, archive)
    unneeded = [segment for segment in archive.segments if segment.number < first]
    if unneeded:
        details: dict[str, object] = {
            "first": unneeded[0].name,
            "last": unneeded[-1].name,
            "count": len(unneeded),
        }
        with transaction.atomic(using=CONTROL):
            record(
                using=CONTROL,
                action="cluster.wal.remove",
                resource_type="database_server",
                resource_id=server.name,
                details=details,
            )
    for segment in unneeded:
        place.remove(segment.name)
    for note in archive.notes:
        if archive.number(note[:24]) < first:
            place.remove(note)
    return len(unneeded)
