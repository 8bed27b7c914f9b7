"""Recover a copy of a whole server to a point in time, beside the live one, to read one tenant from it.

See "Continuous Archiving and Point-in-Time Recovery" in the PostgreSQL manual, and
docs/adr/0010-point-in-time-recovery.md.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings
from django.utils.translation import gettext as _

from config.base.databases import CONTROL
from tenants.errors import ServerError
from tenants.files.locations import place_at
from tenants.models import BaseBackup, DatabaseServer, RestorePoint, database_prefix
from tenants.pitr.base_backup_files import chain, completed, files_kept, limits, unpack
from tenants.pitr.replay import Replay
from tenants.pitr.scratch_server import ASK_US, RecoveryError, ScratchServer, remove_abandoned, scratch_server
from tenants.pitr.wal_archive import latest_commit, wal_archive_read
from tenants.servers import programs
from tenants.servers.session import ServerFacts, ServerSession
from tenants.types import OnProgress, Progress, Target, ignore_progress, utc

__all__ = ["RecoveryError", "Target", "recovered_server", "recoveries_remove"]

# How long the live server, or pg_receivewal, may take to archive one segment. After that, we continue with what is
# archived, which may well be enough for an earlier target.
ARCHIVE_WAIT_S = 60.0
STEP_S = 0.02
MIB = 2**20


@contextmanager
def recovered_server(
    server: DatabaseServer,
    target: Target,
    *,
    work: str,
    database: str,
    on_progress: OnProgress = ignore_progress,
) -> Iterator[DatabaseServer]:
    """Yield a scratch server with the database as it was on `server` at the target; remove it and its files afterwards.

    The yielded `DatabaseServer` is unsaved; it connects to that database through a socket, as a role that can only
    read. `work` is the id of the operation, for `recoveries_remove`. Raises `RecoveryError`; `ToolError`, `PlaceError`
    or `BaseBackupError` if programs or files are missing or unreadable; also `BaseBackupError` if base backups or WAL
    are being removed.

    1. choose the base backup; 2. if needed and possible, make the live server archive its latest WAL; 3. copy the base
    backup; 4. from the copy, start a server that replays the archived WAL up to the target and pauses; 5. end recovery
    there, so that open transactions are rolled back; 6. roll back prepared transactions, and let the reader log in;
    7. yield the server.
    """
    with scratch_server(work) as scratch:
        with files_kept(server):
            replay = _recover(scratch, server, target, on_progress)
        recovered = replay.admit(database)
        on_progress(Progress(server.name, "recovered"))
        yield recovered


def require_reachable(server: DatabaseServer, target: Target) -> None:
    """Check that there is a base backup for the target and that a WAL archive is known; check programs and disk space.

    Does not check whether the archive reaches up to the target. Raises `RecoveryError` or `ToolError`.
    """
    live = _live_facts(server)
    _require_means(_base_backup(server, target, live.now if live else datetime.now(UTC)))


def _recover(scratch: ScratchServer, server: DatabaseServer, target: Target, on_progress: OnProgress) -> Replay:
    live = _live_facts(server)
    backup = _base_backup(server, target, live.now if live else datetime.now(UTC))
    _require_means(backup)
    if live and live.system_identifier != backup.system_identifier:
        live = None  # the WAL was written by another PostgreSQL cluster
    _require_no_tablespaces(server, live)
    if live and live.in_recovery:
        live = None
    if live and not _is_covered(server, backup, target):
        on_progress(Progress(server.name, "archive"))
        _complete_archive(server)
    on_progress(Progress(server.name, "copy"))
    unpack(backup, scratch.data)
    scratch.prepare(_version(backup), _parameters(server, backup, target, live, scratch.data))
    replay = Replay(scratch, server, target, _version(backup))
    replay.require_harmless()
    on_progress(Progress(server.name, "replay"))
    scratch.start()
    replay.until_paused()
    replay.end()
    return replay


def recoveries_remove(work: str | None = None) -> list[str]:
    """End servers that interrupted recoveries left running, and remove their files; return the ids of their operations.

    `work` limits this to one operation. Recoveries of live processes are left alone.
    """
    return remove_abandoned(work)


# -- sources -----------------------------------------------------------------------------------------------------------


def _live_facts(server: DatabaseServer) -> ServerFacts | None:
    """Return the live server's facts; None if it is down (when a restore is needed most) or refuses them."""
    try:
        with ServerSession(server, database_prefix()) as server_session:
            return server_session.facts()
    except ServerError:
        return None


def _base_backup(server: DatabaseServer, target: Target, now: datetime) -> BaseBackup:
    """Return the newest base backup that finished by the target.

    Raises `RecoveryError` if the target cannot be reached.
    """
    backups = list(completed(server))
    if not backups:
        raise RecoveryError(
            _("Database server %(name)s has no base backup to restore from.") % {"name": server.name},
            hint=_(
                "Make one with `seo-gen cluster backup --server %(name)s`; you can then restore to any time after it."
            )
            % {"name": server.name},
            code="base_backup_none",
        )
    if not (server.wal_archive or server.wal_restore_command):
        raise RecoveryError(
            _("No WAL archive is known for database server %(name)s.") % {"name": server.name},
            hint=_(
                "Enter its WAL archive in the admin, run `seo-gen cluster receive-wal --server %(name)s`, or set the"
                " command of another tool with `seo-gen cluster set-restore-command --server %(name)s`."
            )
            % {"name": server.name},
            code="wal_not_archived",
        )
    moment = target.time or _point(server, target).created_at
    if moment > now:
        raise RecoveryError(
            _("Database server %(name)s cannot be restored to %(target)s, which is in the future; it is now %(now)s.")
            % {"target": target, "name": server.name, "now": utc(now)},
            code="time_in_future",
        )
    early_enough = [backup for backup in backups if backup.finished_at and backup.finished_at <= moment]
    if not early_enough:
        raise RecoveryError(
            _(
                "%(target)s is before the earliest base backup of database server %(name)s, which finished at"
                " %(finished)s."
            )
            % {"target": target, "name": server.name, "finished": utc(backups[0].finished_at)},
            code="time_before_base_backup",
        )
    return early_enough[-1]


def _point(server: DatabaseServer, target: Target) -> RestorePoint:
    point = RestorePoint.objects.using(CONTROL).filter(server=server, name=target.name).first()
    if point is None:
        raise RecoveryError(
            _("Database server %(server)s has no restore point %(name)r.")
            % {"server": server.name, "name": target.name},
            code="restore_point_not_found",
        )
    return point


def _require_means(backup: BaseBackup) -> None:
    """Raise `ToolError` or `RecoveryError` if a program or disk space is missing, before anything is copied."""
    for name in ("postgres", "pg_ctl", "pg_controldata", "pg_waldump"):
        programs.program(name, _version(backup), exact=True)
    # Whole MiB, so that the message never shows two equal numbers.
    needed = -(-sum(link.size_bytes or 0 for link in chain(backup)) // MIB) * MIB
    free = _free_bytes(Path(settings.HOME))
    if needed > free:
        raise RecoveryError(
            _("Restoring from base backup %(name)s needs %(needed)d MiB in %(path)s, but only %(free)d MiB are free.")
            % {"name": backup.name, "needed": needed // MIB, "path": settings.HOME, "free": free // MIB},
            hint=_("Free up space on the disk that contains SEO_GEN_HOME, or move that folder to a larger disk."),
            code="recovery_space_missing",
        )


def _free_bytes(folder: Path) -> int:
    """Return the free disk space in bytes for a folder, which may not exist yet."""
    made = next(one for one in (folder, *folder.parents) if one.exists())
    return shutil.disk_usage(made).free


def _require_no_tablespaces(server: DatabaseServer, live: ServerFacts | None) -> None:
    """Refuse tablespaces now, since `tenants.pitr.wal_check` would find them only after minutes of copying."""
    if live and live.tablespaces:
        raise RecoveryError(
            _(
                "Database server %(name)s has tablespaces (%(names)s), and a point-in-time restore could overwrite"
                " their live files."
            )
            % {"name": server.name, "names": ", ".join(live.tablespaces)},
            hint=_(
                "To restore to a time before the tablespaces were created, move their contents to pg_default and drop"
                " them. To restore to a later time, use another tool."
            ),
            code="server_has_tablespaces",
        )


def _is_covered(server: DatabaseServer, backup: BaseBackup, target: Target) -> bool:
    """Return whether the archived WAL already extends past the target; False if that is unknown."""
    if server.wal_restore_command:
        return False
    place = place_at(server.wal_archive)
    archive = wal_archive_read(place)
    if target.time is None:
        newest = archive.segments[-1].number if archive.segments else -1
        return archive.number_of(_point(server, target).lsn) < newest
    latest = latest_commit(place, archive, _version(backup))
    return latest is not None and latest > target.time


def _complete_archive(server: DatabaseServer) -> None:
    """Make the server archive everything that has been committed so far; wait for that up to `ARCHIVE_WAIT_S`.

    A transaction is committed before the segment is switched, since recovery to a time only stops at a later commit.
    """
    try:
        with ServerSession(server, database_prefix()) as server_session:
            server_session.heartbeat()
            segment = server_session.switch_wal()
            deadline = time.monotonic() + ARCHIVE_WAIT_S
            while not _is_archived(server, server_session, segment) and time.monotonic() < deadline:
                time.sleep(STEP_S)
    except ServerError:
        # The server went away, or its administrator is not allowed to switch segments: use what is already archived.
        return


def _is_archived(server: DatabaseServer, server_session: ServerSession, segment: str) -> bool:
    if server.wal_archive:
        return place_at(server.wal_archive).size(segment) is not None
    last = server_session.archiver().last_archived
    return last is not None and last[:24] >= segment


def _parameters(
    server: DatabaseServer, backup: BaseBackup, target: Target, live: ServerFacts | None, data: Path
) -> dict[str, str]:
    """Return the settings of the recovery, including the limits that PostgreSQL requires to replay this WAL."""
    needed = limits(data, _version(backup))
    for name, value in (live.limits if live else {}).items():
        needed[name] = max(needed[name], value)
    what = {"recovery_target_name": target.name} if target.name else {"recovery_target_time": utc(target.time)}
    # If the live server was itself recovered since the backup, it is on a different timeline.
    followed = str(live.timeline) if live and live.timeline != backup.timeline else "current"
    return {
        **{name: str(value) for name, value in needed.items()},
        **what,
        "recovery_target_inclusive": "on",
        "recovery_target_timeline": followed,
        "recovery_target_action": "pause",
        "restore_command": ASK_US,
    }


def _version(backup: BaseBackup) -> int:
    assert backup.server_version is not None  # it is completed
    return backup.server_version
