"""A scratch server: PostgreSQL, started in its own folder from a base backup, and removed once it has been read.

<home>/recovery/<work>/             owned and locked by the recovering process
                          data/     the data directory
                          socket    link to the folder of its socket, whose path must be short
                          wanted/   names of archived files that the server asks for (fetch.sh)
                          fetched/  the files that were asked for
                          missing/  names of files that the archive does not have
                          archive/  files from the archive that are not checked yet (tenants.pitr.replay)

The scratch server replays another server's WAL, so it must be kept from writing to that server's files. Either of two
measures ensures this: if we are root, it runs as an account that owns nothing else; if the kernel has Landlock, its
processes can write only to this folder and the socket's. Neither depends on the contents of the server's catalog.
Without either, only the check of the WAL protects those files (`tenants.pitr.wal_check`). See
docs/adr/0010-point-in-time-recovery.md.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psutil
from django.conf import settings
from django.utils.translation import gettext as _

from config.stack import landlock, process, system_user
from config.stack.process import Launch
from tenants.errors import TenantError
from tenants.models import DatabaseServer
from tenants.servers import programs
from tenants.servers.session import STANDALONE_SETTINGS

PORT = 5432  # only part of the socket's name
# Linux's limit for the length of a socket's path, in bytes.
SOCKET_PATH_MAX = 107
# Shut down with a checkpoint, so that the server can start again without replaying anything.
SHUTDOWN_STEPS = ((signal.SIGINT, 120.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0))
# Stop immediately, since nothing in the folder is kept.
STOP_STEPS = ((signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0))
# Environment of a scratch server's processes. Ours is not passed on, since it may contain secrets.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "PGTZ": "UTC"}
LOGIN_TRIGGER_VERSION = 17
WORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
# The server runs this in its data directory for each archived file ($1) that it wants at $2; $3 is the oldest file that
# it still needs. The script asks the process that started the server, because that process can read folders and buckets
# that the server cannot, and checks each segment first. The script gives up when the folder is gone. An exit status
# above 125 stops the server; a lower nonzero one only tells it that the WAL ends there.
FETCH = """\
{ echo "$3" >"../wanted/.$1" && mv "../wanted/.$1" "../wanted/$1"; } || exit 255
until [ -e "../fetched/$1" ] || [ -e "../missing/$1" ]; do
    [ -d ../wanted ] || exit 255
    sleep 0.02
done
[ ! -e "../missing/$1" ] || exit 1
exec mv "../fetched/$1" "$2"
"""
ASK_US = "/bin/sh ../fetch.sh %f %p %r"
# Only the server's account and root can reach the socket, and no role from the backup's catalog can log in.
HBA = "local all {reader} trust\n"
# These replace the backup's own settings, which may refer to libraries, files and addresses of the source machine.
SERVER_SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "ssl": "off",
    "shared_preload_libraries": "",
    "shared_buffers": "32MB",
    "huge_pages": "off",
    # Other types use memory or files outside the server's folder.
    "dynamic_shared_memory_type": "mmap",
    "fsync": "off",
    "full_page_writes": "off",
    # Off, even against wraparound: nothing may change while the server is being read.
    "autovacuum": "off",
    "autovacuum_freeze_max_age": "2000000000",
    "autovacuum_multixact_freeze_max_age": "2000000000",
    # Replaying WAL that creates tablespaces must fail.
    "allow_in_place_tablespaces": "off",
    # Allows the reader to read large objects, which pg_read_all_data does not cover.
    "lo_compat_privileges": "on",
    "max_logical_replication_workers": "0",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_line_prefix": "",
    "lc_messages": "C",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "wal_level": "replica",
    "archive_mode": "off",
    "primary_conninfo": "",
    "hot_standby": "on",
    "default_transaction_read_only": "on",
    "restart_after_crash": "off",
}


class RecoveryError(TenantError):
    """A server cannot be restored to the requested time or restore point."""


class StandaloneError(Exception):
    """Single-user mode failed; `said` contains the lines that it wrote to stderr."""

    def __init__(self, said: list[str]) -> None:
        super().__init__(*said[-1:])
        self.said = said


class ScratchServer:
    """One scratch server; `folder` belongs to the server and is removed with it."""

    def __init__(self, work: str) -> None:
        self.folder = home() / work
        self.data = self.folder / "data"
        self.log = self.folder / "server.log"
        # The only role that can connect, once `admit_reader` has created it; the source server has no such role.
        self.reader = f"seo_gen_reader_{secrets.token_hex(8)}"
        self._mark = mark(work)
        self._version = 0
        self._process: psutil.Process | None = None
        # The offset in the server's log at which the output of the current start begins.
        self._log_start = 0

    def prepare(self, version: int, parameters: dict[str, str]) -> None:
        """Configure the unpacked base backup for recovery with `SERVER_SETTINGS` and these parameters.

        `version` is the server's major version.
        """
        self._version = version
        (self.folder / "archive").mkdir(mode=0o700)
        for folder in self._servers_own():
            folder.mkdir(mode=0o700, exist_ok=True)
        (self.folder / "fetch.sh").write_text(FETCH)
        (self.folder / "fetch.sh").chmod(0o644)
        sockets = _socket_folder()
        (self.folder / "socket").symlink_to(sockets)
        # Login triggers in the database must not lock us out. Older PostgreSQL versions have no such triggers.
        triggers = {"event_triggers": "off"} if version >= LOGIN_TRIGGER_VERSION else {}
        values = {**SERVER_SETTINGS, **triggers, "unix_socket_directories": str(sockets), **parameters}
        (self.data / "postgresql.conf").write_text("".join(_lines(values)))
        (self.data / "postgresql.auto.conf").write_text("")
        (self.data / "pg_hba.conf").write_text(HBA.format(reader=self.reader))
        (self.data / "pg_ident.conf").write_text("")
        (self.data / "recovery.signal").touch()
        for name in ("standby.signal", "postmaster.pid", "postmaster.opts"):
            (self.data / name).unlink(missing_ok=True)
        account = self._account()
        if account:
            self._hand_over(account)

    def restart(self, parameters: dict[str, str]) -> None:
        """Restart the server with these parameters changed; recovery then continues."""
        self.stop(STOP_STEPS)
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(_lines(parameters))
        self.start()

    def start(self) -> None:
        """Start the server; don't wait until it is ready. Raises `ToolError` if its major version is not installed."""
        account = self._account()
        postgres = self._program("postgres", account)
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        identity = (account.pw_uid, account.pw_gid) if account else ()
        launch = Launch([postgres, "-D", self.data], self.data, ENVIRONMENT, *identity)
        record = landlock.call_confined(lambda: process.spawn(launch, mark=self._mark, log=self.log), self._writable())
        self._process = process.alive(record)

    def promote(self) -> None:
        """Tell the server to end recovery, without waiting until it has; raise `ToolError` if it is not in recovery."""
        account = self._account()
        user, group = (account.pw_uid, account.pw_gid) if account else (None, None)
        command: list[str | Path] = [self._program("pg_ctl", account), "promote", "--no-wait", "--pgdata", self.data]
        programs.run(command, {}, user=user, group=group, cwd=self.data)

    def stop(self, steps: Sequence[tuple[signal.Signals, float]] = SHUTDOWN_STEPS) -> None:
        if self._process is not None:
            process.end(self._process, steps)

    def standalone(self, database: str, script: str) -> str:
        """Run statements in single-user mode (`tenants.servers.single_user`); return the output.

        The server must be stopped. Raises `StandaloneError`, with PostgreSQL's messages, if the database cannot be
        opened or a statement fails.
        """
        account = self._account()
        options = [part for name, value in STANDALONE_SETTINGS.items() for part in ("-c", f"{name}={value}")]
        postgres = self._program("postgres", account)
        command: list[str | Path] = [postgres, "--single", "-D", self.data, *options, "-j", database]
        done = landlock.call_confined(
            lambda: subprocess.run(
                command,
                cwd=self.data,
                env={**ENVIRONMENT, process.MARK: self._mark},
                input=script,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
                check=False,
            ),
            self._writable(),
        )
        if done.returncode:
            raise StandaloneError(done.stderr.splitlines())
        return done.stdout

    def is_running(self) -> bool:
        return self._process is not None and not process.gone(self._process)

    def said(self) -> list[str]:
        """Return the lines that the server has logged since its last start."""
        if not self.log.exists():
            return []
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace").splitlines()

    def as_server(self, of: DatabaseServer, database: str) -> DatabaseServer:
        """Return an unsaved `DatabaseServer` that connects to the database as the read-only reader."""
        sockets = quote(str((self.folder / "socket").readlink()), safe="")
        url = f"postgresql://{self.reader}@{sockets}:{PORT}/{quote(database, safe='')}"
        return DatabaseServer(name=f"{of.name}-recovered", admin_url=url)

    def hand_in(self, name: str, file: Path) -> None:
        """Give the server an archived file that it requested."""
        account = self._account()
        if account:
            os.chown(file, account.pw_uid, account.pw_gid)
        file.rename(self.folder / "fetched" / name)

    def _account(self) -> pwd.struct_passwd | None:
        """Return the account that the server runs as; None for our own."""
        return system_user.ensure_account(system_user.RECOVERY_NAME) if system_user.needed() else None

    def _program(self, name: str, account: pwd.struct_passwd | None) -> Path:
        found = programs.program(name, self._version, exact=True)
        if account:
            system_user.let_run(account, found.parent)
        return found

    def _writable(self) -> list[Path]:
        return [self.folder, (self.folder / "socket").readlink()]

    def _servers_own(self) -> list[Path]:
        return [self.data, *(self.folder / name for name in ("wanted", "fetched", "missing"))]

    def _hand_over(self, account: pwd.struct_passwd) -> None:
        """Give the server's account ownership of the files that it writes, and access to their parent folders."""
        sockets = (self.folder / "socket").readlink()
        for top in (*self._servers_own(), sockets):
            for path in [top, *top.rglob("*")]:
                os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
        system_user.let_through(account, self.data)
        system_user.let_through(account, sockets / "any")


def _socket_folder() -> Path:
    """Create a private folder whose path is short enough for a socket, and return the path."""
    name = f"/.s.PGSQL.{PORT}"
    for parent in (tempfile.gettempdir(), "/tmp", "/run"):
        if os.access(parent, os.W_OK):
            made = tempfile.mkdtemp(prefix="seo-gen-", dir=parent)
            if len(os.fsencode(made + name)) <= SOCKET_PATH_MAX:
                return Path(made)
            os.rmdir(made)
    raise RecoveryError(
        _("The path %(path)s is too long for a socket.") % {"path": tempfile.gettempdir()},
        hint=_("Set TMPDIR to a folder whose path has at most 70 bytes."),
        code="socket_path_too_long",
    )


def home() -> Path:
    return Path(settings.HOME) / "recovery"


def mark(work: str) -> str:
    """Return the mark (`process.MARK`) by which a scratch server's processes are found."""
    return f"{home()}|{work}"


@contextmanager
def scratch_server(work: str) -> Iterator[ScratchServer]:
    """Yield an unprepared server in an empty folder; afterwards, always remove both.

    `work`, the id of the operation, names the folder. Raises `RecoveryError` if a live process uses that folder.
    """
    if not WORK.fullmatch(work):
        raise ValueError(work)
    server = ScratchServer(work)
    with _owned(server.folder) as is_ours:
        if not is_ours:
            raise RecoveryError(
                _("Another process is using the folder %(path)s.") % {"path": server.folder},
                hint=_("Wait for it to finish, then try again."),
                code="recovery_folder_busy",
            )
        _clear(server.folder)
        try:
            yield server
        finally:
            _clear(server.folder)
            server.folder.rmdir()


def remove_abandoned(work: str | None) -> list[str]:
    """End scratch servers that no live process owns, and remove their folders; return the ids of their operations."""
    removed = []
    for folder in sorted(home().iterdir()) if home().exists() else []:
        if not folder.is_dir() or work not in (None, folder.name):
            continue
        with _owned(folder) as is_ours:
            if is_ours:
                _clear(folder)
                folder.rmdir()
                removed.append(folder.name)
    return removed


@contextmanager
def _owned(folder: Path) -> Iterator[bool]:
    """Lock the folder, and yield whether that succeeded; if we are killed, the kernel releases the lock."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _clear(folder: Path) -> None:
    """End the folder's processes, and empty the folder."""
    if not any(folder.iterdir()):
        return
    own = [found for found, told in process.marked(mark(folder.name)) if told == mark(folder.name)]
    # End the postmaster first, which ends its children; then end any that remain.
    for found in sorted(own, key=process.leads_session, reverse=True):
        process.end(found, STOP_STEPS)
    sockets = folder / "socket"
    if sockets.is_symlink():
        shutil.rmtree(sockets.readlink(), ignore_errors=True)
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _lines(values: dict[str, str]) -> list[str]:
    """Return the settings as lines for postgresql.conf."""
    quoted = {name: value.replace("\\", "\\\\").replace("'", "''") for name, value in values.items()}
    return [f"{name} = '{value}'\n" for name, value in quoted.items()]
