"""PostgreSQL servers like operators' own: of any version, with the roles that a script makes, such as the manual's."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from config.stack import process, system_user
from config.stack.postgres import ROLES
from tests.support import superuser

BINARIES_15 = Path("/usr/lib/postgresql/15/bin")
SUPERUSER = "postgres"
ADMINISTRATOR = "seo_gen_admin"
SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
port = {port}
fsync = off
max_connections = 60
max_prepared_transactions = 7
archive_mode = on
archive_command = 'test ! -f "{archive}/%f" && cp "%p" "{archive}/%f"'
"""


@dataclass(frozen=True)
class OwnServer:
    """A running server; its WAL is archived in `archive`."""

    data: Path
    archive: Path
    port: int
    # {role: password} of those that can log in.
    passwords: Mapping[str, str]

    def url(self, role: str = ADMINISTRATOR, database: str = "postgres", password: str | None = None) -> str:
        return f"postgresql://{role}:{password or self.passwords[role]}@127.0.0.1:{self.port}/{database}"

    def as_superuser(self, database: str = "postgres", role: str = SUPERUSER) -> psycopg.Connection:
        """Return an autocommit session of a superuser whose password is that of SUPERUSER."""
        url = self.url(role, database, self.passwords[SUPERUSER])
        return psycopg.connect(url, autocommit=True)


@contextmanager
def own_server(
    folder: Path, binaries: Path, *, script: str = "", settings: str = "", initdb: Sequence[str] = ()
) -> Iterator[OwnServer]:
    """Run a server from these programs in `folder`, and yield it; its superuser has run `script` with psql."""
    account = system_user.ensure_account() if system_user.needed() else None
    identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
    data, archive, key = folder / "data", folder / "archive", folder / "password"
    script, passwords = with_passwords(script)
    folder.mkdir(exist_ok=True)
    key.write_text(passwords[SUPERUSER])
    for made in (data, archive):
        made.mkdir(mode=0o700)
    if account:
        system_user.let_run(account, binaries)
        for path in (data, archive, key):
            os.chown(path, account.pw_uid, account.pw_gid)
        system_user.let_through(account, data)

    def run(*command: str | Path) -> None:
        subprocess.run(command, check=True, capture_output=True, cwd=data, **identity)  # type: ignore[call-overload]

    port = process.free_port()
    options = [f"--username={SUPERUSER}", f"--pwfile={key}", "--auth=scram-sha-256", "--no-sync", *initdb]
    run(binaries / "initdb", f"--pgdata={data}", *options)
    with (data / "postgresql.conf").open("a") as file:
        file.write(SETTINGS.format(port=port, archive=archive) + settings)
    control: list[str | Path] = [binaries / "pg_ctl", "-D", data, "-l", data / "log", "-w"]
    run(*control, "start")
    superuser.remember(port, passwords[SUPERUSER])
    server = OwnServer(data, archive, port, passwords)
    try:
        _run_script(server, binaries, script)
        yield server
    finally:
        run(*control, "-m", "immediate", "stop")


def manual_script() -> str:
    """Return the script that the manual tells operators to run as the superuser; a test ensures that the two agree."""
    return ROLES.read_text()


def with_passwords(script: str) -> tuple[str, dict[str, str]]:
    """Return the script, extended to give the roles that it lets log in a password, and {role: password}.

    The passwords include one for the superuser.
    """
    made = sorted(set(re.findall(r"^ALTER ROLE (\w+) LOGIN", script, re.MULTILINE)))
    passwords = {role: secrets.token_hex(8) for role in made}
    given = "".join(f"ALTER ROLE {role} PASSWORD '{password}';\n" for role, password in passwords.items())
    return script + given, {**passwords, SUPERUSER: secrets.token_hex(8)}


def set_password(connection: psycopg.Connection, role: str, password: str) -> None:
    statement = sql.SQL("ALTER ROLE {} PASSWORD {}")
    connection.execute(statement.format(sql.Identifier(role), sql.Literal(password)))


def _run_script(server: OwnServer, binaries: Path, script: str) -> None:
    options = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file=-"]
    command: list[str | Path] = [binaries / "psql", *options, server.url(SUPERUSER)]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
