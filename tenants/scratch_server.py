"""A PostgreSQL that is started from a base backup only to be read from, in a folder of its own, and then removed.

<home>/recovery/<work>/             locked by the process that recovers
                          data/     the data directory
                          socket    leads to the folder of its socket, whose path must be short
                          wanted/   names of archived files that the server asks for (fetch.sh)
                          fetched/  those files
                          missing/  names of those that the archive has not
"""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import psutil
from django.conf import settings
from django.utils.translation import gettext as _

from config.stack import process, system_user
from config.stack.process import Launch
from tenants import pg_tools
from tenants.errors import TenantError
from tenants.models import DatabaseServer

PORT = 5432  # of the socket's name alone
# At once: nothing of it is kept.
STOP_STEPS = ((signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0))
WORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
# Run by the server, in its data directory, for each file of the archive ($1) that it wants to have at $2. It asks the
# process that started the server, which can read folders and buckets that the server cannot, and gives up when the
# folder is gone. A status above 125 ends the server instead of its log.
FETCH = """\
touch "../wanted/$1" || exit 255
until [ -e "../fetched/$1" ] || [ -e "../missing/$1" ]; do
    [ -d ../wanted ] || exit 255
    sleep 0.02
done
[ ! -e "../missing/$1" ] || exit 1
exec mv "../fetched/$1" "$2"
"""
ASK_US = "/bin/sh ../fetch.sh %f %p"
HBA = "local all all trust\n"
# Instead of the backup's own, which may name libraries, files and addresses of the machine that it comes from.
SERVER_SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "ssl": "off",
    "shared_preload_libraries": "",
    "shared_buffers": "32MB",
    "huge_pages": "off",
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
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


class ScratchServer:
    """One such server; `folder` is its own, and is removed with it."""

    def __init__(self, work: str) -> None:
        self.folder = home() / work
        self.data = self.folder / "data"
        self.log = self.folder / "server.log"
        self._mark = mark(work)
        self._process: psutil.Process | None = None
        # Where in its log the present attempt begins.
        self._log_start = 0

    def prepare(self, parameters: dict[str, str]) -> None:
        """Make the unpacked base backup one that recovers with these parameters, beside `SERVER_SETTINGS`."""
        for name in ("wanted", "fetched", "missing"):
            (self.folder / name).mkdir(mode=0o700)
        (self.folder / "fetch.sh").write_text(FETCH)
        sockets = Path(tempfile.mkdtemp(prefix="seo-gen-"))
        (self.folder / "socket").symlink_to(sockets)
        values = {**SERVER_SETTINGS, "unix_socket_directories": str(sockets), **parameters}
        (self.data / "postgresql.conf").write_text("".join(_lines(values)))
        (self.data / "postgresql.auto.conf").write_text("")
        (self.data / "pg_hba.conf").write_text(HBA)
        (self.data / "pg_ident.conf").write_text("")
        (self.data / "recovery.signal").touch()
        for name in ("standby.signal", "postmaster.pid", "postmaster.opts"):
            (self.data / name).unlink(missing_ok=True)

    def restart(self, version: int, parameters: dict[str, str]) -> None:
        """Start it anew with these parameters changed; it goes on where it was."""
        if self._process is not None:
            process.end(self._process, STOP_STEPS)
        self._log_start = self.log.stat().st_size
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(_lines(parameters))
        self.start(version)

    def start(self, version: int) -> None:
        """Start it; it is not ready yet. Raises `ToolError` where that major version is not installed."""
        postgres = pg_tools.program("postgres", version, exact=True)
        account = system_user.ensure_account() if system_user.needed() else None
        if account:
            self._hand_over(account)
        environment = {"PATH": os.defpath, "LC_ALL": "C", "PGTZ": "UTC"}
        identity = (account.pw_uid, account.pw_gid) if account else ()
        launch = Launch([postgres, "-D", self.data], self.data, environment, *identity)
        self._process = process.alive(process.spawn(launch, mark=self._mark, log=self.log))

    def is_running(self) -> bool:
        return self._process is not None and not process.gone(self._process)

    def said(self) -> list[str]:
        """Return the lines of its log, since it was last started."""
        if not self.log.exists():
            return []
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace").splitlines()

    def as_server(self, of: DatabaseServer) -> DatabaseServer:
        """Return how it is reached, as an unsaved `DatabaseServer`: as the administrator of the original."""
        user = quote(unquote(urlsplit(of.admin_url).username or "postgres"), safe="")
        sockets = quote(str((self.folder / "socket").readlink()), safe="")
        url = f"postgresql://{user}@{sockets}:{PORT}/postgres"
        return DatabaseServer(name=f"{of.name}-recovered", admin_url=url)

    def _hand_over(self, account: pwd.struct_passwd) -> None:
        """Give the files to the account that the server runs as, and let it through to them."""
        sockets = (self.folder / "socket").readlink()
        for top in (self.folder, sockets):
            for path in [top, *top.rglob("*")]:
                os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
        system_user.let_through(account, self.data)
        system_user.let_through(account, sockets / "any")


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
            raise RecoveryError(_("Another process uses the folder %(path)s.") % {"path": server.folder})
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
