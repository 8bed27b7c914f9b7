"""Archive a server's WAL with pg_receivewal, if the server does not archive it to a location that we can read."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext as _

from audit.log.entries import record
from config.base.databases import CONTROL
from tenants.errors import ServerError
from tenants.files.locations import FOLDER_MODE, Folder, place_at
from tenants.models import DatabaseServer, database_prefix
from tenants.selectors import server_get
from tenants.servers import programs
from tenants.servers.replication import replicating
from tenants.servers.session import RECEIVER_SLOT, REPLICATION, ServerSession, application_name


class _Stopped(BaseException):
    """SIGTERM or Ctrl-C was received, which is the normal way to stop."""


def cluster_receive_wal(
    *, server_name: str, output: str | None = None, on_start: Callable[[str], None] = lambda folder: None
) -> str:
    """Write the server's WAL to a folder until SIGTERM or Ctrl-C; return the folder.

    `output` defaults to the server's `wal_archive`, or, if that is empty, to a folder in SEO_GEN_HOME. If
    `wal_archive` is empty, it is set to the folder that is used; otherwise, `output` must be the same folder.
    `on_start` is called with the folder once pg_receivewal has started. A replication slot makes the server keep WAL
    that has not been received yet, even while nothing is receiving it. Raises `ServerError`, `PlaceError`, or
    `ToolError` if pg_receivewal fails.
    """
    server = server_get(server_name)
    folder = _folder(server, output)
    folder.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)
    with ServerSession(server, database_prefix()) as server_session:
        server_session.require_rights(REPLICATION)
        facts = server_session.facts()
        if server_session.archiver().is_received:
            raise ServerError(
                _("Another process is already receiving the WAL of database server %(name)s.") % {"name": server.name},
                hint=_("One is enough. To replace it, stop that process first."),
                code="wal_receiver_running",
            )
    arguments, environment = _arguments(server, facts.version, folder)
    _note(server, str(folder))
    with replicating(server):
        programs.run([*arguments, "--create-slot", "--if-not-exists"], environment)
    try:
        with _signals(), programs.running(arguments, environment) as process:
            on_start(str(folder))
            process.wait()
    except _Stopped:
        return str(folder)
    raise ServerError(
        _("pg_receivewal for database server %(name)s stopped unexpectedly.") % {"name": server.name},
        hint=_("Run `seo-gen cluster receive-wal --server %(name)s` again; it continues where it stopped.")
        % {"name": server.name},
        code="wal_receiver_ended",
    )


def _folder(server: DatabaseServer, output: str | None) -> Path:
    place = place_at(output or server.wal_archive or str(Path(settings.HOME) / "wal" / server.name))
    archive = place_at(server.wal_archive) if server.wal_archive else place
    if not (isinstance(place, Folder) and isinstance(archive, Folder)):
        raise ServerError(
            _("The WAL of database server %(name)s can only be received into a folder, not into %(url)s.")
            % {"name": server.name, "url": archive.url if isinstance(place, Folder) else place.url},
            hint=_(
                "Enter a folder as the server's WAL archive in the admin; --output, if given, must be the same folder."
                " To archive to S3, use another tool."
            ),
            code="wal_needs_folder",
        )
    if place.url != archive.url:
        raise ServerError(
            _("The WAL of database server %(name)s must go to its WAL archive, %(archive)s.")
            % {"name": server.name, "archive": server.wal_archive},
            hint=_("Omit --output, or change the server's WAL archive in the admin first."),
            code="wal_archived_elsewhere",
        )
    place.require_writable()
    return Path(place.url)


def _arguments(server: DatabaseServer, version: int, folder: Path) -> tuple[list[str | Path], dict[str, str]]:
    connection, environment = programs.replication_arguments(
        server.admin_url, application=application_name("receive-wal")
    )
    options: list[str | Path] = ["--no-password", "--directory", folder, "--slot", RECEIVER_SLOT]
    return [programs.program("pg_receivewal", version), *connection, *options], environment


def _note(server: DatabaseServer, folder: str) -> None:
    """Record that we are starting to receive the server's WAL; store the folder as its WAL archive if it has none."""
    with transaction.atomic(using=CONTROL):
        record(
            using=CONTROL,
            action="cluster.wal.receive",
            resource_type="database_server",
            resource_id=server.name,
            details={"folder": folder},
        )
        unknown = DatabaseServer.objects.using(CONTROL).filter(pk=server.pk, wal_archive="")
        if unknown.update(wal_archive=folder):
            details: dict[str, object] = {"wal_archive": folder}
            record(
                using=CONTROL,
                action="server.change",
                resource_type="database_server",
                resource_id=server.name,
                details=details,
            )


@contextmanager
def _signals() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into an exception, so that pg_receivewal ends when we do."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Stopped

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
