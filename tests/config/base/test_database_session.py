"""Every session of the product has limits on waiting; PGOPTIONS can change them only in `tenant dbshell`."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import connections, transaction

from config.base.database_session import (
    SHELL_IDLE_IN_TRANSACTION_TIMEOUT_S,
    STALLING_PLACE_S,
    Limits,
    command_name,
    options,
    program_conninfo,
)
from config.stack import postgres
from config.stack.paths import CHECKOUT, Home
from config.stack.state import load_secrets, load_state
from tenants.models import Tenant, database_prefix
from tenants.routing.context import tenant_context
from tenants.routing.held_transaction import held_open
from tenants.routing.owner_connection import guest_connection, owner_connection
from tenants.schema.inspection import database_of
from tenants.servers.programs import connection_arguments, program, replication_arguments, run
from tenants.servers.session import ServerSession, owner_url, parse_location
from tests.support.program import seo_gen
from tests.support.superuser import superuser_url

NAMES = [
    "idle_in_transaction_session_timeout",
    "lock_timeout",
    "tcp_keepalives_count",
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "tcp_user_timeout",
]
QUERY = "SELECT name || '=' || setting FROM pg_catalog.pg_settings WHERE name IN ({}) ORDER BY name".format(
    ", ".join(f"'{name}'" for name in NAMES)
)
WEAKENING = "-c lock_timeout=0 -c idle_in_transaction_session_timeout=0 -c tcp_user_timeout=0"


def expected(*, idle_s: float = 60, tcp_user_s: float = 30) -> list[str]:
    return [
        f"idle_in_transaction_session_timeout={idle_s * 1000:.0f}",
        "lock_timeout=10000",
        "tcp_keepalives_count=3",
        "tcp_keepalives_idle=30",
        "tcp_keepalives_interval=10",
        f"tcp_user_timeout={tcp_user_s * 1000:.0f}",
    ]


def found_by(driver: psycopg.Connection[Any]) -> list[str]:
    """Return the session's settings as the server sees them; also check those of the client."""
    client = driver.info.get_parameters()
    assert {name: client.get(name) for name in ("connect_timeout", "tcp_user_timeout", "keepalives_idle")} == {
        "connect_timeout": "10",
        "tcp_user_timeout": "30000",
        "keepalives_idle": "30",
    }
    return [row[0] for row in driver.execute(QUERY)]


Opener = Callable[[Tenant], Iterator[psycopg.Connection[Any]]]


@contextmanager
def control(_tenant: Tenant, alias: str = "default") -> Iterator[psycopg.Connection[Any]]:
    connections[alias].close()
    connections[alias].ensure_connection()
    yield connections[alias].connection
    connections[alias].close()


@contextmanager
def control_owner(tenant: Tenant) -> Iterator[psycopg.Connection[Any]]:
    with control(tenant, "control-owner") as driver:
        yield driver


@contextmanager
def as_tenant(tenant: Tenant) -> Iterator[psycopg.Connection[Any]]:
    with tenant_context(tenant) as alias:
        connections[alias].ensure_connection()
        yield connections[alias].connection


@contextmanager
def as_owner(tenant: Tenant) -> Iterator[psycopg.Connection[Any]]:
    assert tenant.server is not None
    with owner_connection(tenant.server, database_of(tenant), "test") as connection:
        connection.ensure_connection()
        yield connection.connection


@contextmanager
def as_guest(tenant: Tenant) -> Iterator[psycopg.Connection[Any]]:
    with guest_connection(tenant.database_url, database_of(tenant), "test") as connection:
        connection.ensure_connection()
        yield connection.connection


def test_a_guest_is_never_given_the_owners_session(tenant: Tenant) -> None:
    """Another thread, or an enclosing block, may be connected to the same database as the owner."""
    with as_owner(tenant) as owner, as_guest(tenant) as guest:
        assert owner.info.user != guest.info.user == parse_location(tenant.database_url).role
        guest.close()
        assert owner.execute("SELECT 1").fetchone() == (1,)


@contextmanager
def administrator(tenant: Tenant) -> Iterator[psycopg.Connection[Any]]:
    assert tenant.server is not None
    with ServerSession(tenant.server, database_prefix(), "test") as server_session:
        yield server_session._connection


@contextmanager
def deputy(tenant: Tenant) -> Iterator[psycopg.Connection[Any]]:
    assert tenant.server is not None
    with (
        ServerSession(tenant.server, database_prefix(), "test") as server_session,
        server_session.deputy(database_of(tenant), "deputy_of_a_test", server_session.owner) as connection,
    ):
        yield connection


@pytest.mark.parametrize("opened", [control, control_owner, as_tenant, as_owner, as_guest, administrator, deputy])
def test_each_way_to_connect_is_bounded(tenant: Tenant, opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGOPTIONS", WEAKENING)
    with psycopg.connect(superuser_url(tenant.server.admin_url), autocommit=True) as server:  # type: ignore[union-attr]
        # A tenant may change the defaults of its own role.
        server.execute(f'ALTER ROLE "{database_of(tenant)}" SET lock_timeout = 0')
    with opened(tenant) as driver:
        assert found_by(driver) == expected()


def test_the_stacks_own_session_is_bounded(stack_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGOPTIONS", WEAKENING)
    secrets, port = load_secrets(stack_home), load_state(stack_home).services["postgres"].port
    assert secrets is not None
    with postgres._connect(secrets, port) as driver:
        assert [row[0] for row in driver.execute(QUERY)] == expected()
        client = driver.info.get_parameters()
    assert (client["connect_timeout"], client["tcp_user_timeout"]) == ("5", "30000")


def test_programs_are_bounded(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGOPTIONS", WEAKENING)
    assert tenant.server is not None
    arguments, environment = connection_arguments(owner_url(tenant.server, database_of(tenant)), application="test")
    query = f"{QUERY}; SELECT current_user || ' ' || current_database()"
    printed = run([program("psql", 18), "-XAtc", query, *arguments], environment).split("\n")
    patient = expected(idle_s=STALLING_PLACE_S, tcp_user_s=STALLING_PLACE_S)
    assert printed == [*patient, f"{database_prefix()}_owner {database_of(tenant)}", ""]
    arguments, environment = replication_arguments(tenant.server.admin_url, application="test")
    assert "tcp_user_timeout='300000'" in arguments[-1] and "dbname" not in arguments[-1]
    assert environment["PGCONNECT_TIMEOUT"] == "10" and "lock_timeout=10000" in environment["PGOPTIONS"]


@pytest.mark.parametrize("owner", [False, True])
def test_the_shell_is_bounded_but_lets_its_operator_think(tenant: Tenant, owner: bool) -> None:
    """The operator's own PGOPTIONS apply, since it is their session."""
    arguments = ["--owner"] if owner else []
    command = ("tenant", "dbshell", "--tenant-id", tenant.id, *arguments, "--", "-XAtc", QUERY)
    shown = seo_gen(*command, PGOPTIONS="")
    patient = expected(idle_s=SHELL_IDLE_IN_TRANSACTION_TIMEOUT_S, tcp_user_s=STALLING_PLACE_S)
    assert shown.stdout.split() == patient, shown.stderr
    shown = seo_gen(*command, PGOPTIONS="-c lock_timeout=7s")
    assert "lock_timeout=7000" in shown.stdout.split()


def test_the_environment_sets_them(tenant: Tenant) -> None:
    told = seo_gen(
        *("tenant", "dbshell", "--tenant-id", tenant.id, "--", "-XAtc", QUERY),
        DATABASE_LOCK_TIMEOUT_S="2.5",
        DATABASE_IDLE_IN_TRANSACTION_TIMEOUT_S="1000",
        DATABASE_TCP_USER_TIMEOUT_S="400",
    )
    assert {"lock_timeout=2500", "idle_in_transaction_session_timeout=1000000", "tcp_user_timeout=400000"} <= set(
        told.stdout.split()
    )


@pytest.mark.parametrize("value", ["0", "-1", "86401"])
def test_unlimited_waiting_is_rejected(value: str) -> None:
    refused = seo_gen("tenant", "list", DATABASE_LOCK_TIMEOUT_S=value)
    assert refused.returncode == 1
    assert refused.stderr == ("The configuration is invalid: DATABASE_LOCK_TIMEOUT_S must be between 0.1 and 86400\n")


class TestOptions:
    def test_ours_win_over_what_is_inherited(self) -> None:
        text = options(Limits(lock_timeout_s=0.5), session={"role": "a b\\c"}, inherited="-c lock_timeout=0")
        assert text.startswith("-c lock_timeout=0 -c lock_timeout=500 ")
        assert text.endswith(" -c role=a\\ b\\\\c")

    def test_a_programs_connection_quotes_names(self) -> None:
        told = psycopg.conninfo.conninfo_to_dict(program_conninfo(Limits(), "it's a \\ name"))
        assert (told["dbname"], told["tcp_user_timeout"]) == ("it's a \\ name", "300000")

    @pytest.mark.parametrize(
        ("argv", "name"),
        [
            (["/usr/bin/seo-gen", "tenant", "migrate", "--all"], "seo-gen tenant migrate on "),
            (["manage.py", "tenant_list"], "manage.py tenant_list on "),
            (["-c", "run", "--config", "secret"], "python run on "),
            (["seo-gen", "--config=secret", "/a/path"], "seo-gen on "),
            ([], "python on "),
        ],
    )
    def test_sessions_are_named_by_command_and_host(self, argv: list[str], name: str) -> None:
        assert command_name(argv).startswith(name)
        assert len(command_name(["x" * 100]).encode()) == 63


class TestHeldOpen:
    def test_a_transaction_that_is_idle_on_purpose_lives_on(self, tenant: Tenant, limits: Any) -> None:
        limits(idle_in_transaction_timeout_s=0.5)
        with as_owner(tenant):
            pass
        assert tenant.server is not None
        with (
            owner_connection(tenant.server, database_of(tenant), "test") as connection,
            transaction.atomic(using=connection.alias),
            held_open(connection),
            psycopg.connect(tenant.server.admin_url, autocommit=True) as watch,
        ):
            pid = connection.connection.info.backend_pid
            # Twice as long as the server waits, by its own clock, with a statement in between.
            longer = "SELECT clock_timestamp() - xact_start > interval '1.2 s' FROM pg_stat_activity WHERE pid = %s"
            while not (row := watch.execute(longer, [pid]).fetchone()) or not row[0]:
                assert row is not None, "the server ended it"
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")

    def test_one_that_is_forgotten_is_ended(self, tenant: Tenant, limits: Any) -> None:
        limits(idle_in_transaction_timeout_s=0.2)
        assert tenant.server is not None
        with as_owner(tenant) as driver, psycopg.connect(tenant.server.admin_url, autocommit=True) as watch:
            driver.execute("BEGIN; LOCK TABLE runs IN ACCESS EXCLUSIVE MODE")
            there = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = %s)"
            while watch.execute(there, [driver.info.backend_pid]).fetchone() == (True,):
                pass


# -- no other way ------------------------------------------------------------------------------------------------------

# The functions that open sessions with the driver, and those that build the arguments of PostgreSQL's programs.
CONNECTING = {"config/stack/postgres.py", "tenants/servers/session/base.py"}
PROGRAMS = {"tenants/servers/programs.py", "tenants/lifecycle/shell.py"}
PRODUCT = ("audit", "config", "llm", "prompts", "runs", "tenants")


def sources() -> Iterator[tuple[str, ast.Module]]:
    for app in PRODUCT:
        for path in sorted((CHECKOUT / app).rglob("*.py")):
            yield path.relative_to(CHECKOUT).as_posix(), ast.parse(path.read_text())


def called(node: ast.AST) -> str:
    """Return the name of the called function, such as "psycopg.connect"; "" if the node is not a call."""
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


def test_only_listed_modules_connect() -> None:
    drivers = {"psycopg.connect", "psycopg.Connection.connect", "psycopg.AsyncConnection.connect", "Connection.connect"}
    found = {
        (path, any(keyword.arg is None for keyword in node.keywords))
        for path, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and called(node) in drivers
    }
    # Each with `**…`, which holds the bounds.
    assert found == {(path, True) for path in CONNECTING}


def imported_at_runtime(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from imported_at_runtime(node)


def test_only_listed_modules_import_the_drivers_connect() -> None:
    forbidden = {"connect", "Connection", "AsyncConnection"}
    found = {
        path
        for path, tree in sources()
        for node in imported_at_runtime(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("psycopg")
        if forbidden & {alias.name for alias in node.names}
    }
    assert found == set()


def test_only_listed_modules_build_arguments_for_programs() -> None:
    found = {
        path for path, tree in sources() for node in ast.walk(tree) if called(node).endswith("settings_to_cmd_args_env")
    }
    assert found == PROGRAMS


def test_every_alias_is_bounded() -> None:
    """Only the two modules that are tested above add aliases, and those in the settings have limits, too."""
    found = {path for path, tree in sources() for node in ast.walk(tree) if called(node).endswith("add_alias")}
    assert found == {"tenants/routing/pool.py", "tenants/routing/owner_connection.py"}
    for name in ("default", "control-owner"):
        assert "lock_timeout=10000" in settings.DATABASES[name]["OPTIONS"]["options"]
