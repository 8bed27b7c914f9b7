"""The time that PostgreSQL's own programs take for a dump, a restore, and a recovery to a target."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.environment import Environment
from benchmarks.measure import seconds_of

PAUSED = "pausing at the end of recovery"
WAIT_S = 300.0
SETTINGS = """
listen_addresses = ''
unix_socket_directories = '.'
archive_mode = off
shared_preload_libraries = ''
shared_buffers = '32MB'
fsync = off
full_page_writes = off
autovacuum = off
hot_standby = on
max_connections = 100
max_prepared_transactions = 2000
recovery_target_action = 'pause'
recovery_target_timeline = 'current'
"""


def pg_dump(environment: Environment, tenant_id: str, file: Path) -> float:
    """Dump the tenant's database; return the seconds."""
    from tenants.servers.programs import connection_arguments

    arguments, variables = connection_arguments(environment.postgres_url, database=_database(tenant_id))
    file.unlink(missing_ok=True)
    return _timed(
        ["pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={file}", *arguments], variables
    )


def pg_restore(environment: Environment, file: Path, database: str) -> float:
    """Restore the dump into a new database, which is dropped afterwards; return the seconds."""
    from tenants.servers.programs import connection_arguments

    arguments, variables = connection_arguments(environment.postgres_url, database=database)
    with environment.server() as server:
        server.execute(f"CREATE DATABASE {database} TEMPLATE template0")
        command = ["pg_restore", "--no-owner", "--no-privileges", "--exit-on-error", "--dbname", database]
        taken = _timed([*command, *arguments[:-1], str(file)], variables)
        server.execute(f"DROP DATABASE {database}")
    return taken


class BareRecovery:
    """Copies the base backup, and starts a server that replays the WAL archive up to the target and pauses."""

    def __init__(self, environment: Environment, backup: Path, target: str) -> None:
        self._folder = environment.home.path / "bare-recovery"
        self._backup = backup
        archive = environment.home.path / "postgres" / "wal"
        self._settings = f"{SETTINGS}restore_command = 'cp {archive}/%f %p'\nrecovery_target_time = '{target}'\n"

    def recover(self) -> float:
        """Return the seconds that it takes to copy the base backup, replay up to the pause, and stop the server."""
        shutil.rmtree(self._folder, ignore_errors=True)
        return seconds_of(self._recover)

    def _recover(self) -> None:
        from config.stack import system_user

        account = system_user.ensure_account() if system_user.needed() else None
        subprocess.run(["cp", "-r", self._backup, self._folder], check=True)
        (self._folder / "postgresql.conf").write_text(self._settings)
        (self._folder / "postgresql.auto.conf").write_text("")
        (self._folder / "recovery.signal").touch()
        self._folder.chmod(0o700)
        if account:
            subprocess.run(["chown", "-R", f"{account.pw_uid}:{account.pw_gid}", self._folder], check=True)
            system_user.let_through(account, self._folder / "any")
        log = self._folder.with_suffix(".log")
        with log.open("wb") as output:
            server = subprocess.Popen(
                [_program("postgres"), "-D", self._folder],
                stdout=output,
                stderr=output,
                cwd="/",
                env={"PATH": os.defpath, "LC_ALL": "C", "PGTZ": "UTC"},
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
            )
        deadline = time.monotonic() + WAIT_S
        while PAUSED not in log.read_text(errors="replace"):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text(errors="replace")[-2000:])
            time.sleep(0.02)
        server.send_signal(signal.SIGQUIT)
        server.wait()


def _timed(command: Sequence[str], variables: dict[str, str]) -> float:
    program = [str(_program(command[0])), *command[1:]]
    return seconds_of(lambda: subprocess.run(program, env={**os.environ, **variables}, check=True))


def _program(name: str) -> Path:
    from config.stack.postgres import binaries_folder

    return binaries_folder() / name


def _database(tenant_id: str) -> str:
    from tenants.schema.inspection import database_of
    from tenants.selectors import tenant_get

    return database_of(tenant_get(tenant_id))
