"""A PostgreSQL that is started from a base backup only to be read from, in a folder of its own, and then removed.

<home>/recovery/<work>/             locked by the process that recovers, and its own
                          data/     the data directory
                          socket    leads to the folder of its socket, whose path must be short
                          wanted/   names of archived files that the server asks for (fetch.sh)
                          fetched/  those files
                          missing/  names of those that the archive has not
                          archive/  what was taken from the archive, and is not checked yet (tenants.pitr.replay)

It replays what another server wrote, so it is kept from that one's files in two ways, each of which is enough: where we
are root, it runs as an account that owns nothing else; where the kernel has Landlock, it and all its processes can
write nowhere but here. Nothing that it does depends on what its catalog holds. See
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

PORT = 5432  # of the socket's name alone
# Linux allows a socket's path so many bytes.
SOCKET_PATH_MAX = 107
# With a checkpoint, so that it can be started without replaying anything.
SHUTDOWN_STEPS = ((signal.SIGINT, 120.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0))
# At once: nothing of it is kept.
STOP_STEPS = ((signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0))
# Of a scratch server's processes: nothing of ours, which may hold secrets.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "PGTZ": "UTC"}
LOGIN_TRIGGER_VERSION = 17
WORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
# Run by the server, in its data directory, for each file of the archive ($1) that it wants to have at $2; $3 is the
# oldest that it still needs. It asks the process that started the server, which can read folders and buckets that the
# server cannot and looks at each segment first, and gives up when the folder is gone. A status above 125 ends the
# server instead of its log.
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
# Through a socket that only the server's account, and root, can reach; and as nobody whom its catalog knows.
HBA = "local all {reader} trust\n"
# Instead of the backup's own, which may name libraries, files and addresses of the machine that it comes from.
SERVER_SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "ssl": "off",
    "shared_preload_libraries": "",
    "shared_buffers": "32MB",
    "huge_pages": "off",
    # Others are files outside its folder.
    "dynamic_shared_memory_type": "mmap",
    "fsync": "off",
    "full_page_writes": "off",
    # Off, and not against wraparound either: what is read must stand still.
    "autovacuum": "off",
    "autovacuum_freeze_max_age": "2000000000",
    "autovacuum_multixact_freeze_max_age": "2000000000",
    # Whoever replays a log that makes tablespaces should fail.
    "allow_in_place_tablespaces": "off",
    # The reader may read large objects, whose rights no role for reading covers.
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
    """A server cannot be recovered to the time or name that was asked for."""


class StandaloneError(Exception):
    """Single-user mode ended with an error; `said` are its lines."""

    def __init__(self, said: list[str]) -> None:
        super().__init__(*said[-1:])
        self.said = said


class ScratchServer:
    """One such server; `folder` is its own, and is removed with it."""

    def __init__(self, work: str) -> None:
        self.folder = home() / work
        self.data = self.folder / "data"
        self.log = self.folder / "server.log"
        # The one role that can connect, once it is made (`admit_reader`); no role of the original is called so.
        self.reader = f"seo_gen_reader_{secrets.token_hex(8)}"
        self._mark = mark(work)
        self._version = 0
        self._process: psutil.Process | None = None
        # Where in its log the present attempt begins.
        self._log_start = 0

    def prepare(self, version: int, parameters: dict[str, str]) -> None:
        """Make the unpacked base backup one that recovers with these parameters, beside `SERVER_SETTINGS`.

        `version` is the major version that it is of.
        """
        self._version = version
        (self.folder / "archive").mkdir(mode=0o700)
        for folder in self._servers_own():
            folder.mkdir(mode=0o700, exist_ok=True)
        (self.folder / "fetch.sh").write_text(FETCH)
        (self.folder / "fetch.sh").chmod(0o644)
        sockets = _socket_folder()
        (self.folder / "socket").symlink_to(sockets)
        # So that no login trigger of the database holds us up. Older versions have none.
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
        """Start it anew with these parameters changed; it goes on where it was."""
        self.stop(STOP_STEPS)
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(_lines(parameters))
        self.start()

    def start(self) -> None:
        """Start it; it is not ready yet. Raises `ToolError` where its major version is not installed."""
        account = self._account()
        postgres = self._program("postgres", account)
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        identity = (account.pw_uid, account.pw_gid) if account else ()
        launch = Launch([postgres, "-D", self.data], self.data, ENVIRONMENT, *identity)
        record = landlock.call_confined(lambda: process.spawn(launch, mark=self._mark, log=self.log), self._writable())
        self._process = process.alive(record)

    def promote(self) -> None:
        """Have it end its recovery, which takes a moment; raise `ToolError` where it is in none."""
        account = self._account()
        user, group = (account.pw_uid, account.pw_gid) if account else (None, None)
        command: list[str | Path] = [self._program("pg_ctl", account), "promote", "--no-wait", "--pgdata", self.data]
        programs.run(command, {}, user=user, group=group, cwd=self.data)

    def stop(self, steps: Sequence[tuple[signal.Signals, float]] = SHUTDOWN_STEPS) -> None:
        if self._process is not None:
            process.end(self._process, steps)

    def standalone(self, database: str, script: str) -> str:
        """Run statements (`tenants.servers.single_user`) in single-user mode, while it is stopped; return the answer.

        Raises `StandaloneError` with PostgreSQL's own words where one of them fails.
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
        """Return the lines of its log, since it was last started."""
        if not self.log.exists():
            return []
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace").splitlines()

    def as_server(self, of: DatabaseServer, database: str) -> DatabaseServer:
        """Return how the database is reached, as an unsaved `DatabaseServer`: as the reader, who can only read."""
        sockets = quote(str((self.folder / "socket").readlink()), safe="")
        url = f"postgresql://{self.reader}@{sockets}:{PORT}/{quote(database, safe='')}"
        return DatabaseServer(name=f"{of.name}-recovered", admin_url=url)

    def hand_in(self, name: str, file: Path) -> None:
        """Give the server an archived file that it asked for."""
        account = self._account()
        if account:
            os.chown(file, account.pw_uid, account.pw_gid)
        file.rename(self.folder / "fetched" / name)

    def _account(self) -> pwd.struct_passwd | None:
        """Return who the server runs as, None for ourselves."""
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
        """Give what the server writes to the account that it runs as, and let it through to that."""
        sockets = (self.folder / "socket").readlink()
        for top in (*self._servers_own(), sockets):
            for path in [top, *top.rglob("*")]:
                os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
        system_user.let_through(account, self.data)
        system_user.let_through(account, sockets / "any")


def _socket_folder() -> Path:
    """Make a folder that only we can enter, with a path that is short enough for a socket in it."""
    name = f"/.s.PGSQL.{PORT}"
    for parent in (tempfile.gettempdir(), "/tmp", "/run"):
        if os.access(parent, os.W_OK):
            made = tempfile.mkdtemp(prefix="seo-gen-", dir=parent)
            if len(os.fsencode(made + name)) <= SOCKET_PATH_MAX:
                return Path(made)
            os.rmdir(made)
    raise RecoveryError(
        _("The path %(path)s is too long for a socket.") % {"path": tempfile.gettempdir()},
        hint=_("Set TMPDIR to a folder with a short path."),
        code="socket_path_too_long",
    )


def home() -> Path:
    return Path(settings.HOME) / "recovery"


def mark(work: str) -> str:
    """Return what the environment of a scratch server's processes says of whose they are."""
    return f"{home()}|{work}"


@contextmanager
def scratch_server(work: str) -> Iterator[ScratchServer]:
    """Yield a server that is not made yet, in an empty folder; remove both in every case.

    `work` names the folder, so it is the id of what it is done for. Raises `RecoveryError` where a living process uses
    that folder.
    """
    if not WORK.fullmatch(work):
        raise ValueError(work)
    server = ScratchServer(work)
    with _owned(server.folder) as is_ours:
        if not is_ours:
            raise RecoveryError(
                _("Another process uses the folder %(path)s.") % {"path": server.folder}, code="recovery_folder_busy"
            )
        _clear(server.folder)
        try:
            yield server
        finally:
            _clear(server.folder)
            server.folder.rmdir()


def remove_abandoned(work: str | None) -> list[str]:
    """End the scratch servers that no living process owns, and remove their folders; return their works."""
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
    """Hold the lock on the folder, which the kernel frees when its process dies; yield False where another holds it."""
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
    """End what runs in the folder, and empty it."""
    if not any(folder.iterdir()):
        return
    own = [found for found, told in process.marked(mark(folder.name)) if told == mark(folder.name)]
    # The postmaster first, which ends its children; then what it did not.
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
    """Write settings as postgresql.conf wants them."""
    quoted = {name: value.replace("\\", "\\\\").replace("'", "''") for name, value in values.items()}
    return [f"{name} = '{value}'\n" for name, value in quoted.items()]
