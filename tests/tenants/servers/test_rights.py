"""Rights that a role lacks are named, with the statement that grants each, before anything is changed.

No session of the product can become more than its role.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connections
from psycopg.rows import scalar_row

from config.stack.paths import CHECKOUT
from config.stack.postgres import ADMIN, APP, CONTROL_OWNER
from tenants.errors import ServerError
from tenants.lifecycle.setup import server_register
from tenants.models import DatabaseServer, Tenant, database_prefix
from tenants.pitr.status import cluster_statuses
from tenants.routing.owner_connection import owner_connection
from tenants.schema.inspection import database_of
from tenants.servers.session import owner_url, parse_location
from tests.support.servers import second_postgres
from tests.support.superuser import superuser_url

# {what takes the right: (its name, what grants it)}
NEEDED = {
    f"ALTER ROLE {ADMIN} NOCREATEDB": ("CREATEDB", f'ALTER ROLE "{ADMIN}" CREATEDB;'),
    f"ALTER ROLE {ADMIN} NOCREATEROLE": ("CREATEROLE", f'ALTER ROLE "{ADMIN}" CREATEROLE;'),
    f"REVOKE pg_signal_backend FROM {ADMIN}": ("pg_signal_backend", f'GRANT pg_signal_backend TO "{ADMIN}";'),
    f"REVOKE pg_monitor FROM {ADMIN}": ("pg_monitor", f'GRANT pg_monitor TO "{ADMIN}";'),
}
RESERVED = "pg_use_reserved_connections"
# {what takes a right that most work can do without: (its name, what grants it)}
USEFUL = {
    f"ALTER ROLE {ADMIN} NOREPLICATION": ("REPLICATION", f'ALTER ROLE "{ADMIN}" REPLICATION;'),
    f"REVOKE {RESERVED} FROM {ADMIN} CASCADE": (
        f"{RESERVED} WITH ADMIN OPTION",
        f'GRANT {RESERVED} TO "{ADMIN}" WITH ADMIN OPTION;',
    ),
}
# {what keeps the administrator out: (what the server says, what lets it in again)}
ENTRY = {
    f"REVOKE CONNECT ON DATABASE postgres FROM {ADMIN}": (
        'permission denied for database "postgres"',
        f"GRANT CONNECT ON DATABASE postgres TO {ADMIN}",
    ),
    f"ALTER ROLE {ADMIN} NOLOGIN": (f'role "{ADMIN}" is not permitted to log in', f"ALTER ROLE {ADMIN} LOGIN"),
}
CONTROL = {
    "REVOKE CREATE ON SCHEMA public FROM pg_database_owner": f'GRANT CREATE ON SCHEMA public TO "{CONTROL_OWNER}"',
    f"REVOKE CONNECT ON DATABASE seo_gen_control FROM {APP}": f'GRANT CONNECT ON DATABASE "seo_gen_control" TO "{APP}"',
    f"REVOKE USAGE ON SCHEMA public FROM PUBLIC, {APP}": f'GRANT USAGE ON SCHEMA public TO "{APP}"',
    f"ALTER DEFAULT PRIVILEGES FOR ROLE {CONTROL_OWNER} REVOKE UPDATE ON TABLES FROM {APP}": (
        f'ALTER DEFAULT PRIVILEGES FOR ROLE "{CONTROL_OWNER}" GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO "{APP}"'
    ),
    f"ALTER DEFAULT PRIVILEGES FOR ROLE {CONTROL_OWNER} REVOKE USAGE ON SEQUENCES FROM {APP}": (
        f'ALTER DEFAULT PRIVILEGES FOR ROLE "{CONTROL_OWNER}" GRANT USAGE, SELECT ON SEQUENCES TO "{APP}"'
    ),
}


@pytest.fixture(scope="module")
def bare_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the administrator's URL of a server that has the manual's roles and is not registered yet."""
    with second_postgres(tmp_path_factory.mktemp("bare")) as url:
        yield url


@contextmanager
def without(url: str, database: str, statement: str, grant: str) -> Iterator[None]:
    with psycopg.connect(superuser_url(url, database), autocommit=True) as superuser:
        superuser.execute(statement.encode())
        try:
            yield
        finally:
            superuser.execute(grant.encode())


def roles_on(url: str) -> list[str]:
    with psycopg.connect(url, row_factory=scalar_row) as connection:
        return connection.execute("SELECT rolname FROM pg_roles ORDER BY rolname").fetchall()


@pytest.mark.parametrize("taken", NEEDED)
def test_a_server_is_not_registered_without_a_right_of_its_administrator(bare_server: str, taken: str) -> None:
    before = roles_on(bare_server)
    right, grant = NEEDED[taken]
    with without(bare_server, "postgres", taken, grant), pytest.raises(ServerError) as refused:
        server_register(name="lacking", admin_url=bare_server)
    assert str(refused.value) == (
        f"The administrator of database server lacking lacks {right}."
        f" As a superuser, run in the database of the administrator's URL: {grant}"
    )
    assert roles_on(bare_server) == before
    assert not DatabaseServer.objects.filter(pk="lacking").exists()


def test_all_that_is_missing_is_named_at_once(bare_server: str) -> None:
    url = superuser_url(bare_server)
    with psycopg.connect(url, autocommit=True) as superuser:
        superuser.execute("CREATE ROLE nobody_special LOGIN PASSWORD 'p'")
        superuser.execute("GRANT CONNECT ON DATABASE postgres TO nobody_special")
    address = bare_server.rpartition("@")[2]
    with pytest.raises(ServerError) as refused:
        server_register(name="lacking", admin_url=f"postgresql://nobody_special:p@{address}")
    for right, grant in NEEDED.values():
        assert right in refused.value.message and grant.replace(ADMIN, "nobody_special") in refused.value.hint


@pytest.mark.parametrize("taken", ENTRY)
def test_a_rejected_administrator_gets_a_hint(bare_server: str, taken: str) -> None:
    reason, given = ENTRY[taken]
    with without(bare_server, "postgres", taken, given), pytest.raises(ServerError) as refused:
        server_register(name="lacking", admin_url=bare_server)
    assert (
        reason in refused.value.message and "roles.sql gives the administrator LOGIN and CONNECT" in refused.value.hint
    )
    assert not DatabaseServer.objects.filter(pk="lacking").exists()


@pytest.fixture
def registered(bare_server: str) -> Iterator[DatabaseServer]:
    server = server_register(name="half", admin_url=bare_server)
    yield server
    server.delete()


@pytest.mark.parametrize("taken", [*NEEDED, *USEFUL])
def test_setup_and_status_report_each_missing_right(registered: DatabaseServer, taken: str) -> None:
    """Operations that need the right report it too: see test_missing_rights.py and test_recovery_rights.py."""
    right, grant = {**NEEDED, **USEFUL}[taken]
    said = f"Its administrator lacks {right}. As a superuser, run in the database of the administrator's URL: {grant}"
    with without(registered.admin_url, "postgres", taken, grant):
        # Without the rights that it needs, set-up does not continue with that server, so its message differs.
        assert right in (told := call_setup()) and grant in told
        [status] = cluster_statuses(server_name="half")
        assert said in status.problems
    assert "half" not in call_setup()
    [status] = cluster_statuses(server_name="half")
    assert said not in status.problems


@pytest.mark.parametrize("role", [APP, CONTROL_OWNER])
def test_a_control_role_without_reserved_connections_is_reported(role: str) -> None:
    url = DatabaseServer.objects.get(pk="main").admin_url
    with without(url, "postgres", f"REVOKE {RESERVED} FROM {role}", f"GRANT {RESERVED} TO {role}"):
        assert call_setup() == (
            f"Role {role} of the control database lacks {RESERVED}."
            f' As a superuser, run: GRANT "{RESERVED}" TO "{role}";\n'
        )
    assert call_setup() == ""


def test_a_superuser_as_administrator_is_reported(bare_server: str) -> None:
    with psycopg.connect(superuser_url(bare_server), autocommit=True) as superuser:
        superuser.execute("CREATE ROLE almighty LOGIN SUPERUSER PASSWORD 'p'")
    url = f"postgresql://almighty:p@{bare_server.rpartition('@')[2]}"
    server = server_register(name="mighty", admin_url=url)
    try:
        [status] = cluster_statuses(server_name="mighty")
        assert any("Its administrator is a superuser." in one for one in status.problems)
    finally:
        server.delete()


@pytest.mark.parametrize("taken", CONTROL)
def test_setup_is_refused_without_a_right_in_the_control_database(taken: str) -> None:
    url = DatabaseServer.objects.get(pk="main").admin_url
    name = settings.DATABASES["default"]["NAME"]
    back = CONTROL[taken].replace(f'TO "{CONTROL_OWNER}"', "TO pg_database_owner")
    back = back.replace(f'USAGE ON SCHEMA public TO "{APP}"', f"USAGE ON SCHEMA public TO PUBLIC, {APP}")
    with without(url, name, taken, back), pytest.raises(CommandError) as refused:
        call_command("control_setup")
    assert str(refused.value) == (
        f"The roles of the control database {name} lack 1 of the rights that they need."
        f" As a superuser, run in that database: {CONTROL[taken]};"
    )
    assert call_setup() == ""


def test_the_manual_shows_the_file_that_makes_the_roles() -> None:
    manual = (CHECKOUT / "docs" / "configuration.md").read_text()
    roles = (CHECKOUT / "config" / "stack" / "roles.sql").read_text()
    assert f"```sql\n{roles}```" in manual


def call_setup() -> str:
    """Run `control setup`; return what it reports on stderr."""
    complaints = io.StringIO()
    call_command("control_setup", stdout=io.StringIO(), stderr=complaints)
    return complaints.getvalue()


def test_no_session_of_the_product_can_become_more_than_its_role(tenant: Tenant) -> None:
    """Anyone who makes a session run code gets only its role's rights, whatever SET ROLE or RESET ROLE they try."""
    assert tenant.server is not None
    own, owner = parse_location(tenant.database_url), owner_url(tenant.server, database_of(tenant))
    may_become = {
        tenant.database_url: {own.role, f"{database_prefix()}_tenant"},
        owner: {f"{database_prefix()}_owner"},
        settings_url("default"): {APP},
        settings_url("control-owner"): {CONTROL_OWNER},
    }
    # PostgreSQL's own roles that give no power over data.
    harmless = ["pg_database_owner", "pg_use_reserved_connections"]
    query = "SELECT rolname FROM pg_roles WHERE pg_has_role(session_user, oid, 'MEMBER') AND rolname <> ALL(%s)"
    for url, expected in may_become.items():
        with psycopg.connect(url, autocommit=True, row_factory=scalar_row) as session:
            assert set(session.execute(query, [harmless]).fetchall()) == expected
            for statement in ("SET ROLE NONE", "RESET ROLE", "RESET SESSION AUTHORIZATION"):
                session.execute(statement.encode())
                assert session.execute("SELECT current_user").fetchone() in expected
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute("SET SESSION AUTHORIZATION postgres")
    with owner_connection(tenant.server, database_of(tenant), "test") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT session_user = current_user, current_setting('role')")
        assert cursor.fetchone() == (True, "none")


def test_the_administrator_is_no_superuser_and_becomes_none(main_server: DatabaseServer) -> None:
    query = "SELECT rolname FROM pg_roles WHERE rolsuper AND pg_has_role(session_user, oid, 'MEMBER')"
    with psycopg.connect(main_server.admin_url) as session:
        assert session.execute(query).fetchall() == []


def settings_url(alias: str) -> str:
    parameters = connections[alias].get_connection_params()
    return psycopg.conninfo.make_conninfo(
        **{name: parameters[name] for name in ("host", "port", "user", "password", "dbname")}
    )


@pytest.fixture
def main_server() -> DatabaseServer:
    return DatabaseServer.objects.get(pk="main")
