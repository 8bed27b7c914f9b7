"""Report which times each database server can be restored to, and what prevents a restore."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from config.base.databases import CONTROL
from config.base.errors import SeoGenError
from tenants.errors import ServerError, because
from tenants.files.locations import Place, place_at
from tenants.models import BackupStatus, BaseBackup, DatabaseServer, database_prefix
from tenants.pitr.base_backup_files import completed
from tenants.pitr.wal_archive import Archive, latest_commit, wal_archive_read
from tenants.servers.rights_check import rights_problems
from tenants.servers.session import IDENTIFY, ArchiverState, ServerFacts, ServerSession


@dataclass(frozen=True)
class BaseBackupState:
    name: str
    # The folder or bucket with the base backups.
    place: str
    incremental: bool
    finished_at: datetime | None
    size_bytes: int | None
    # Segments missing from the WAL archive between this base backup and the next one (or the end of the archive).
    missing_wal: list[str]


@dataclass(frozen=True)
class ClusterHealth:
    server: str
    reachable: bool
    # Location of the server's WAL archive; "" if unknown, "command" if another tool's command fetches from it.
    wal_archive: str
    # Oldest first.
    base_backups: list[BaseBackupState]
    # With a WAL archive, the server can be restored to any time between these two. Both are None if no base backup can
    # be used; `latest` is also None if it is unknown.
    earliest: datetime | None
    latest: datetime | None
    # Whether its WAL is being archived now, by the server or by `cluster receive-wal`; None if it is unreachable.
    archiving: bool | None
    # When a restore from this server's backups was last tested successfully.
    recovery_verified_at: datetime | None
    # One sentence each; empty if healthy.
    problems: list[str]


def cluster_statuses(*, server_name: str | None = None) -> list[ClusterHealth]:
    """Return the health of each server, or only of the named one ([] if unknown). Failures are listed as problems."""
    servers = DatabaseServer.objects.using(CONTROL).order_by("name")
    return [_health(server) for server in (servers.filter(pk=server_name) if server_name else servers)]


def _health(server: DatabaseServer) -> ClusterHealth:
    problems: list[str] = []
    facts, archiver = _ask(server, problems)
    place, archive = _archive(server, problems)
    backups = list(completed(server))
    following = [*backups[1:], None]
    states = [_state(backup, after, archive) for backup, after in zip(backups, following, strict=False)]
    archiving = (archiver.archives and not archiver.failing) or archiver.is_received if archiver else None
    earliest = _earliest(states)
    latest = _latest(server, facts if archiving else None, place, archive, problems)
    problems += [*_about_archiving(server, archiver), *_about_backups(server, states, facts)]
    return ClusterHealth(
        server=server.name,
        reachable=facts is not None,
        wal_archive=server.wal_archive or ("command" if server.wal_restore_command else ""),
        base_backups=states,
        earliest=earliest,
        latest=latest if earliest else None,
        archiving=archiving,
        recovery_verified_at=server.recovery_verified_at,
        problems=problems,
    )


def _ask(server: DatabaseServer, problems: list[str]) -> tuple[ServerFacts | None, ArchiverState | None]:
    try:
        with ServerSession(server, database_prefix()) as server_session:
            problems += rights_problems(server_session)
            if server_session.missing_rights(IDENTIFY):
                return None, None
            return server_session.facts(), server_session.archiver()
    except ServerError as error:
        problems.append(str(error))
        return None, None


def _archive(server: DatabaseServer, problems: list[str]) -> tuple[Place | None, Archive | None]:
    if not server.wal_archive:
        return None, None
    try:
        place = place_at(server.wal_archive)
        return place, wal_archive_read(place)
    except SeoGenError as error:
        problems.append(str(error))
        return None, None


def _state(backup: BaseBackup, after: BaseBackup | None, archive: Archive | None) -> BaseBackupState:
    """Return the backup's state; WAL missing after the next base backup counts against that backup instead."""
    missing: list[str] = []
    if archive is not None and backup.timeline is not None:
        missing = archive.gaps(backup.stop_lsn, backup.timeline)
        if after is not None:
            end = archive.number_of(after.stop_lsn)
            missing = [name for name in missing if archive.number(name) < end]
    return BaseBackupState(
        name=backup.name,
        place=backup.place,
        incremental=backup.parent_id is not None,
        finished_at=backup.finished_at,
        size_bytes=backup.size_bytes,
        missing_wal=missing,
    )


def _earliest(states: Sequence[BaseBackupState]) -> datetime | None:
    """Return the end time of the oldest base backup with no segment missing after it; None if there is none."""
    earliest = None
    for state in reversed(states):
        if state.missing_wal:
            break
        earliest = state.finished_at
    return earliest


def _latest(
    server: DatabaseServer,
    facts: ServerFacts | None,
    place: Place | None,
    archive: Archive | None,
    problems: list[str],
) -> datetime | None:
    """Return the latest time that the server can be restored to; None if unknown.

    If its WAL is being archived, that is the server's current time; otherwise the time of the newest archived commit,
    or else the end of the newest base backup.
    """
    if facts is not None:
        return facts.now
    newest = list(completed(server))[-1:]
    if place is None or archive is None or not newest:
        return None
    assert newest[0].server_version is not None  # it is completed
    try:
        return latest_commit(place, archive, newest[0].server_version) or newest[0].finished_at
    except SeoGenError as error:
        problems.append(str(error))
        return None


def _about_archiving(server: DatabaseServer, archiver: ArchiverState | None) -> Iterator[str]:
    if not server.wal_archive and not server.wal_restore_command:
        yield _("No WAL archive is known for this server.")
    elif archiver is not None and archiver.failing and not archiver.is_received:
        yield _("WAL file %(name)s could not be archived (last attempt: %(since)s); see the server's log.") % {
            "name": archiver.failing,
            "since": f"{archiver.failed_at:%Y-%m-%d %H:%M:%S%z}",
        }
    elif archiver is not None and not archiver.archives and not archiver.is_received:
        yield _("Its WAL is not being archived at the moment.")


def _about_backups(
    server: DatabaseServer, states: Sequence[BaseBackupState], facts: ServerFacts | None
) -> Iterator[str]:
    if not states:
        yield _("It has no base backup.")
    for state in states:
        if state.missing_wal:
            yield ngettext(
                "After base backup %(name)s, %(count)d segment is missing from the WAL archive: %(first)s.",
                "After base backup %(name)s, %(count)d segments are missing from the WAL archive; the first is"
                " %(first)s, the last %(last)s.",
                len(state.missing_wal),
            ) % {
                "name": state.name,
                "count": len(state.missing_wal),
                "first": state.missing_wal[0],
                "last": state.missing_wal[-1],
            }
    newest = list(completed(server))[-1:]
    if newest and facts and newest[0].system_identifier != facts.system_identifier:
        yield _("Its newest base backup is from another PostgreSQL cluster; make a new one.")
    failed = BaseBackup.objects.using(CONTROL).filter(server=server, status=BackupStatus.FAILED).first()
    if failed and (not newest or failed.started_at > newest[0].started_at):
        yield because(_("The last base backup failed."), failed.error)
