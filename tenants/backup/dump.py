"""Dump a tenant's database and load dumps, as streams, with pg_dump, pg_restore and psql."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import IO

from django.conf import settings
from django.db.models import TextChoices
from django.utils.translation import gettext as _

from tenants.backup.sql_filter import statements
from tenants.errors import TenantError
from tenants.files.streams import copy_stream, piped
from tenants.models import DatabaseServer
from tenants.servers.programs import connection_arguments, program, running, version_of
from tenants.servers.session import application_name, owner_url

# The first bytes of pg_dump's custom format.
CUSTOM_MAGIC = b"PGDMP"
# From this version on, pg_restore sets a parameter that older servers do not know.
TRANSACTION_TIMEOUT_VERSION = 17


Process = subprocess.Popen[bytes]


class DumpFormat(TextChoices):
    CUSTOM = "custom"
    PLAIN = "plain"


def dump(
    server: DatabaseServer,
    database: str,
    major_version: int,
    take: Callable[[IO[bytes]], None],
    *,
    work: str,
    dump_format: DumpFormat = DumpFormat.CUSTOM,
    snapshot: str | None = None,
    compress: bool = True,
    as_owner: bool = True,
    on_start: Callable[[Process], None] = lambda process: None,
) -> None:
    """Dump the database as its owner and pass the stream to `take`; use the exported `snapshot` if given.

    Without `as_owner`, dump as the role in the server's URL. Owners and grants are left out: they belong to the
    installation, and a restore sets them anew. So are large objects. `on_start` is called with the started process.
    Raises `ToolError`.
    """
    url, name = (owner_url(server, database), None) if as_owner else (server.admin_url, database)
    arguments, environment = connection_arguments(url, database=name, application=application_name(work))
    options = [
        f"--format={dump_format}",
        "--no-owner",
        "--no-privileges",
        # Short for --no-large-objects; every version knows the short form. The product creates no large objects; if a
        # tenant's role created one, the owner could not read it, and all of the tenant's backups would fail
        # (`tenants.schema.row_counts`).
        "-B",
        # pg_dump resets the session's own lock timeout. A busy tenant must not delay the backups of all others.
        f"--lock-wait-timeout={settings.DATABASE_LIMITS.lock_timeout_s:g}s",
        *([f"--snapshot={snapshot}"] if snapshot else []),
        *([] if compress or dump_format == DumpFormat.PLAIN else ["--compress=0"]),
    ]
    command: list[str | Path] = [program("pg_dump", major_version), *options, *arguments]
    with running(command, environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        on_start(process)
        take(process.stdout)


def format_of(beginning: bytes) -> DumpFormat:
    """Return a dump's format from its first bytes; raise `TenantError` if it is not a dump."""
    if beginning.startswith(CUSTOM_MAGIC):
        return DumpFormat.CUSTOM
    text = beginning.lstrip()
    if text.startswith((b"--", b"SET ", b"\\restrict")) and b"\0" not in beginning:
        return DumpFormat.PLAIN
    raise TenantError(_("The file is not a pg_dump in the custom or plain format."), code="backup_not_recognized")


def load(
    url: str,
    major_version: int,
    source: IO[bytes],
    *,
    dump_format: DumpFormat,
    work: str,
    on_start: Callable[[Process], None] = lambda process: None,
) -> None:
    """Load a dump into the empty database at `url`, as the URL's role; raise `ToolError` or `NotADump`.

    The dump is code, so the role must own nothing else. `on_start` is called with each started process, so that the
    caller can kill it.
    """
    arguments, environment = connection_arguments(url, application=application_name(work))
    if dump_format == DumpFormat.PLAIN:
        _psql(arguments, environment, major_version, source, on_start)
        return
    tool = program("pg_restore", major_version)
    options = ["--no-owner", "--no-privileges", "--exit-on-error"]
    if major_version < TRANSACTION_TIMEOUT_VERSION <= version_of(tool):
        with piped(lambda target: _convert(tool, options, source, target, on_start)) as text:
            _psql(arguments, environment, major_version, text, on_start)
        return
    command: list[str | Path] = [tool, *options, "--dbname", arguments[-1], *arguments[:-1]]
    with running(command, environment, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        on_start(process)
        copy_stream(source, process.stdin)


def _convert(
    tool: Path, options: list[str], source: IO[bytes], target: IO[bytes], on_start: Callable[[Process], None]
) -> None:
    """Convert the dump to plain SQL, since pg_restore would set a parameter that the older server does not know."""
    with (
        piped(lambda pushed: copy_stream(source, pushed)) as dumped,
        running([tool, *options, "--file=-"], {}, stdin=dumped, stdout=target) as process,
    ):
        on_start(process)


def _psql(
    arguments: list[str],
    environment: dict[str, str],
    major_version: int,
    source: IO[bytes],
    on_start: Callable[[Process], None],
) -> None:
    options = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file=-"]
    with running([program("psql", major_version), *options, *arguments], environment, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        on_start(process)
        for piece in statements(source):
            process.stdin.write(piece)
