"""Dump a tenant's database and load a dump, with PostgreSQL's own pg_dump, pg_restore and psql, as streams."""

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

# What pg_dump's custom format begins with.
CUSTOM_MAGIC = b"PGDMP"
# pg_restore of this version and later sets a parameter that servers before it do not know.
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
    """Have `take` read a dump of the database as its owner sees it, of the exported `snapshot` where one is given.

    Without `as_owner`, as whoever the server's URL names sees it. Owners and grants are left out: they are the
    installation's, and a restore gives them anew. `on_start` is given each program. Raises `ToolError`.
    """
    url, name = (owner_url(server, database), None) if as_owner else (server.admin_url, database)
    arguments, environment = connection_arguments(url, database=name, application=application_name(work))
    options = [
        f"--format={dump_format}",
        "--no-owner",
        "--no-privileges",
        # --no-large-objects, by the name that every version knows. The product makes none, and a tenant's role that
        # makes one, which the owner may not read, would end all backups of that tenant (`tenants.schema.row_counts`).
        "-B",
        # pg_dump switches off the session's own bound. A busy tenant must not hold up the backup of all others.
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
    """Tell a dump's format by its first bytes; raise `TenantError` where it is none."""
    if beginning.startswith(CUSTOM_MAGIC):
        return DumpFormat.CUSTOM
    text = beginning.lstrip()
    if text.startswith((b"--", b"SET ", b"\\restrict")) and b"\0" not in beginning:
        return DumpFormat.PLAIN
    raise TenantError(_("The file is neither in pg_dump's custom format nor plain SQL."), code="backup_not_recognized")


def load(
    url: str,
    major_version: int,
    source: IO[bytes],
    *,
    dump_format: DumpFormat,
    work: str,
    on_start: Callable[[Process], None] = lambda process: None,
) -> None:
    """Load a dump into the empty database behind `url`, as the role that is in it; raise `ToolError` or `NotADump`.

    The dump is code: the role must own nothing else. `on_start` is given each program that runs, so that somebody can
    end it.
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
    """Write the dump as plain SQL: pg_restore itself would set a parameter that the older server does not know."""
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
