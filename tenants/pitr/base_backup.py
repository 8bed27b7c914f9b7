"""Make a base backup of a whole database server (pg_basebackup), from which a point-in-time restore starts."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil
from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from audit.log.actor import current_actor
from audit.log.entries import record
from config.base.databases import CONTROL
from config.base.errors import SeoGenError
from config.stack import process
from tenants.errors import ServerError, failure_reason
from tenants.files.locations import FOLDER_MODE, PlaceError, place_at
from tenants.models import BackupStatus, BaseBackup, DatabaseServer, database_prefix
from tenants.operations import advisory_lock
from tenants.pitr.base_backup_files import (
    INCREMENTAL_VERSION,
    BaseBackupError,
    completed,
    manifest_fetch,
    remove,
    require_self_contained,
    staging,
    store,
    verify,
    wal_range,
)
from tenants.pitr.dead_rows import superseded_remove
from tenants.selectors import server_get
from tenants.servers import programs
from tenants.servers.replication import replicating
from tenants.servers.session import REPLICATION, ServerFacts, ServerSession, application_name
from tenants.types import OnProgress, Progress, ignore_progress

ENDING_WAIT_S = 10.0


def cluster_backup(
    *,
    server_name: str | None = None,
    output: str | None = None,
    incremental: bool = False,
    on_progress: OnProgress = ignore_progress,
) -> BaseBackup:
    """Make a base backup of the server (default: the default server) and return its completed record.

    `output` is a folder or s3://bucket/prefix (default: CLUSTER_BACKUP_OUTPUT). With `incremental`, store only the
    changes since the newest base backup (PostgreSQL 17 or newer). On failure, the files are removed and the record is
    marked as failed; what cannot be done then is left for `cluster_backups_recover`.
    Raises `ServerError`, `BaseBackupError`, `ToolError` or `PlaceError`.

    1. try to remove superseded rows from the control database; 2. record the backup; 3. copy the server's files under a
    temporary name; 4. verify checksums; 5. give the copy its final name, or upload it to the bucket; 6. complete the
    record.
    """
    server = server_get(server_name)
    place = place_at(output or settings.CLUSTER_BACKUP_OUTPUT)
    # Otherwise the copy would contain old versions of control database rows, which erasures have superseded.
    superseded_remove()
    with server_lock(server):
        with ServerSession(server, database_prefix()) as server_session:
            server_session.require_rights(REPLICATION)
            facts = server_session.facts()
        parent = _parent(server, facts) if incremental else None
        _require_simple(server, facts)
        backup = _begin(server, facts, parent, place.url)
        try:
            finished_at = _make(backup, on_progress)
        except BaseException as failure:
            _undo(backup, failure)
            raise
        on_progress(Progress(server.name, "completed"))
        return _complete(backup, finished_at)


def cluster_backups_recover() -> list[BaseBackup]:
    """Mark unfinished base backups of killed processes as failed and remove their files; return these backups.

    A pg_basebackup that is still running is ended. Skips servers whose base backups another process is making or
    removing, and backups whose location is unreachable or whose files cannot be removed.
    """
    ended = []
    for backup in _running().select_related("server"):
        with suppress(SeoGenError, OSError), server_lock(backup.server):
            if _running().filter(pk=backup.pk).exists():
                _end_copying(backup)
                _fail(backup, _("The base backup was interrupted."))
                ended.append(backup)
    return ended


@contextmanager
def server_lock(server: DatabaseServer) -> Iterator[None]:
    """Hold the lock under which base backups are made and removed; raise `ServerError` if another process holds it."""

    def busy() -> ServerError:
        return ServerError(
            _("Another process is making or removing base backups of database server %(name)s.")
            % {"name": server.name},
            hint=_("Wait for it to end, then try again."),
            code="base_backup_running",
        )

    with advisory_lock(f"seo-gen:cluster:{server.name}", busy=busy):
        yield


def _parent(server: DatabaseServer, facts: ServerFacts) -> BaseBackup:
    """Return the backup to base an incremental one on; raise `BaseBackupError` if no incremental backup can be made."""
    newest = list(completed(server))[-1:]
    if facts.version < INCREMENTAL_VERSION:
        problem = _(
            "Database server %(name)s runs PostgreSQL %(version)d, which does not support incremental base backups."
        )
    elif not facts.summarizes_wal:
        problem = _("Database server %(name)s does not summarize its WAL (summarize_wal is off).")
    elif not newest or newest[0].system_identifier != facts.system_identifier:
        problem = _("Database server %(name)s has no base backup that an incremental one could build on.")
    else:
        return newest[0]
    raise BaseBackupError(
        problem % {"name": server.name, "version": facts.version},
        hint=_("Run the command again without --incremental."),
        code="incremental_impossible",
    )


def _require_simple(server: DatabaseServer, facts: ServerFacts) -> None:
    if facts.tablespaces:
        raise BaseBackupError(
            _("Database server %(name)s has tablespaces (%(names)s), which base backups do not cover.")
            % {"name": server.name, "names": ", ".join(facts.tablespaces)},
            hint=_(
                "Move their contents to pg_default and drop the tablespaces, or back up the server with another tool."
            ),
            code="server_has_tablespaces",
        )


def _begin(server: DatabaseServer, facts: ServerFacts, parent: BaseBackup | None, place: str) -> BaseBackup:
    unique = uuid.uuid4()
    with transaction.atomic(using=CONTROL):
        backup = BaseBackup.objects.using(CONTROL).create(
            id=unique,
            server=server,
            parent=parent,
            status=BackupStatus.RUNNING,
            place=place,
            name=f"base-{server.name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{unique.hex[:8]}",
            server_version=facts.version,
            system_identifier=facts.system_identifier,
            user_id=current_actor().user_id,
        )
        _audit("cluster.backup", backup)
    return backup


def _make(backup: BaseBackup, on_progress: OnProgress) -> datetime:
    """Copy, verify and store the backup; return the server's time just after the copy was made."""
    assert backup.server_version is not None  # set by `_begin`
    place = place_at(backup.place)
    staged = staging(place, backup.name)
    _ensure_folder(staged.parent)
    on_progress(Progress(backup.server.name, "copy"))
    _copy(backup, staged)
    with ServerSession(backup.server, database_prefix()) as server_session:
        finished_at = server_session.facts().now
    on_progress(Progress(backup.server.name, "verify"))
    require_self_contained(staged)  # a tablespace may have been created in the meantime
    verify(staged, backup.server_version)
    needed = wal_range(staged)
    backup.timeline, backup.start_lsn, backup.stop_lsn = needed.timeline, needed.start_lsn, needed.stop_lsn
    backup.size_bytes = sum(path.stat().st_size for path in staged.rglob("*") if path.is_file())
    on_progress(Progress(backup.server.name, "store"))
    store(staged, place, backup.name)
    return finished_at


def _ensure_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)
    except OSError as error:
        raise PlaceError(
            _("%(path)s cannot be written: %(reason)s.") % {"path": folder, "reason": error.strerror},
            code="place_unavailable",
        ) from error


def _copy(backup: BaseBackup, target: Path) -> None:
    """Run pg_basebackup; the copy includes the WAL that it needs, so that it can be started without a WAL archive."""
    assert backup.server_version is not None
    connection, environment = programs.replication_arguments(backup.server.admin_url, application=_session(backup))
    arguments: list[str | Path] = [
        programs.program("pg_basebackup", backup.server_version),
        *connection,
        *("--pgdata", target, "--format=plain", "--checkpoint=fast", "--wal-method=stream", "--no-password"),
        *("--label", backup.name),
    ]
    manifest = _parent_manifest(target)
    try:
        if backup.parent is not None:
            manifest_fetch(backup.parent, manifest)
            arguments += ["--incremental", manifest]
        with replicating(backup.server):
            programs.run(arguments, environment)
    finally:
        manifest.unlink(missing_ok=True)


def _complete(backup: BaseBackup, finished_at: datetime) -> BaseBackup:
    with transaction.atomic(using=CONTROL):
        backup.status, backup.finished_at, backup.verified_at = BackupStatus.COMPLETED, finished_at, Now()
        backup.save(using=CONTROL)
        _audit("cluster.backup.complete", backup)
    backup.refresh_from_db(using=CONTROL)
    return backup


def _undo(backup: BaseBackup, failure: BaseException) -> None:
    """Remove the files and mark the record as failed; if that fails too, leave it for `cluster_backups_recover`."""
    with suppress(SeoGenError, OSError):
        _fail(backup, str(failure) if isinstance(failure, SeoGenError) else failure_reason(failure))


def _fail(backup: BaseBackup, error: str) -> None:
    remove(backup)
    with transaction.atomic(using=CONTROL):
        _running().filter(pk=backup.pk).update(status=BackupStatus.FAILED, error=error)
        _audit("cluster.backup.fail", backup)


def _end_copying(backup: BaseBackup) -> None:
    """End a pg_basebackup that outlived its parent process, and its session on the server.

    Also remove its copy of the parent backup's manifest.
    """
    staged = staging(place_at(backup.place), backup.name)
    for found in psutil.process_iter(["name", "cmdline"]):
        if found.info["name"] == "pg_basebackup" and str(staged) in (found.info["cmdline"] or []):
            process.end(found, ((signal.SIGKILL, ENDING_WAIT_S),))
    # If pg_basebackup runs on another machine, we can still end its session on the server.
    with suppress(ServerError), ServerSession(backup.server, database_prefix(), _work(backup)) as server_session:
        server_session.end_predecessors()
    _parent_manifest(staged).unlink(missing_ok=True)


def _parent_manifest(staged: Path) -> Path:
    return staged.with_name(f"{staged.name}.parent-manifest")


def _work(backup: BaseBackup) -> str:
    return f"base backup {backup.pk}"


def _session(backup: BaseBackup) -> str:
    return application_name(_work(backup))


def _running() -> QuerySet[BaseBackup]:
    return BaseBackup.objects.using(CONTROL).filter(status=BackupStatus.RUNNING)


def _audit(action: str, backup: BaseBackup) -> None:
    details: dict[str, object] = {
        "server": backup.server_id,
        "path": place_at(backup.place).path(backup.name),
        "incremental": backup.parent_id is not None,
        "stop_lsn": backup.stop_lsn,
    }
    record(using=CONTROL, action=action, resource_type="base_backup", resource_id=str(backup.pk), details=details)
