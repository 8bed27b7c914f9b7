"""Our migrations create the expected guards, and every difference from them in these tests is reported."""

from __future__ import annotations

import os
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from audit.verification.expected_guards import EXPECTED, KNOWN
from audit.verification.guard_check import TABLES, LogRoles, control_roles, guard_problems, guards_hash, guards_read
from audit.verification.logs import tenant_roles
from tenants.lifecycle.create import tenant_create
from tenants.lifecycle.setup import server_register
from tenants.models import DatabaseServer, Tenant
from tenants.routing.owner_connection import owner_connection
from tenants.schema.inspection import database_of
from tests.audit.conftest import Log
from tests.support.superuser import superuser_connection
from tests.support.tenant_fixtures import MakeTenant, remove

EXTERNAL = os.environ.get("EXTERNAL_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres")
MODIFICATION = "trigger prevent_audit_log_modification on {log}"
# (change, reported problem).
ATTACKS = [
    ("ALTER TABLE {log} DISABLE TRIGGER prevent_audit_log_modification", MODIFICATION + " is disabled"),
    (
        "ALTER TABLE {log} ENABLE TRIGGER prevent_audit_log_truncation",
        "firing of trigger prevent_audit_log_truncation on {log}: “not for replicas” instead of “always”",
    ),
    ("DROP TRIGGER prevent_audit_log_modification ON {log}", MODIFICATION + " is missing"),
    (
        "DROP TRIGGER prevent_audit_log_modification ON {log};"
        "CREATE TRIGGER prevent_audit_log_modification BEFORE DELETE ON {log} FOR EACH ROW"
        " EXECUTE FUNCTION prevent_audit_log_modification();"
        "ALTER TABLE {log} ENABLE ALWAYS TRIGGER prevent_audit_log_modification",
        MODIFICATION + ": “before delete for each row calls public.prevent_audit_log_modification” instead of",
    ),
    (
        "CREATE OR REPLACE FUNCTION prevent_audit_log_modification() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN RETURN NEW; END'",
        "function public.prevent_audit_log_modification: “owner: owner, plpgsql, sha256 ",
    ),
    (
        "CREATE OR REPLACE FUNCTION chain_{log}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
        " SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN NEW; END'",
        "function public.chain_{log}: “",
    ),
    ("GRANT EXECUTE ON FUNCTION chain_{log}() TO PUBLIC", "privileges of PUBLIC on function chain_{log} should not"),
    ("ALTER FUNCTION chain_{log}() RESET search_path", "function public.chain_{log}: “"),
    ("GRANT UPDATE ON {log} TO PUBLIC", "privileges of PUBLIC on {log} should not exist (UPDATE)."),
    ("GRANT UPDATE (details) ON {log} TO PUBLIC", "privileges of PUBLIC on column {log}.details should not"),
    (
        "GRANT DELETE ON {log} TO {application}",
        "privileges of application on {log}: “DELETE, INSERT, SELECT” instead of “INSERT, SELECT”",
    ),
    ("GRANT SELECT ON {head} TO {application}", "privileges of application on {head} should not exist (SELECT)."),
    (
        "CREATE ROLE guard_test; GRANT INSERT ON {log} TO guard_test",
        "privileges of role guard_test on {log} should not",
    ),
    ("ALTER TABLE {log} OWNER TO {application}", "table {log}: “owner: application, "),
    ("GRANT {owner} TO {application}", " to become the owner should not exist"),
    ("GRANT pg_write_all_data TO {application}", " to change {head} by way of another role should not exist"),
    ("CREATE RULE quiet AS ON INSERT TO {log} DO INSTEAD NOTHING", "rule quiet on {log} should not exist"),
    (
        "ALTER TABLE {log} ENABLE ROW LEVEL SECURITY",
        "table {log}: “owner: owner, kind r, persistence p, row security",
    ),
    ("CREATE POLICY hidden ON {log} USING (false)", "policy hidden on {log} should not exist"),
    ("ALTER TABLE {log} SET UNLOGGED", "table {log}: “owner: owner, kind r, persistence u”"),
    ("CREATE TABLE child () INHERITS ({log})", "table child, which inherits from {log} should not exist"),
    ("ALTER TABLE {log} DROP CONSTRAINT {log}_sequence_key", "constraint UNIQUE (sequence) on {log} is missing"),
    (
        "CREATE TRIGGER quiet BEFORE INSERT ON {log} FOR EACH ROW WHEN (NEW.action = 'x')"
        " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "trigger quiet on {log} should not exist",
    ),
    ("ALTER TABLE {log} RENAME TO elsewhere", "table {log} is missing"),
]


@pytest.fixture(scope="module")
def tenant() -> Iterator[Tenant]:
    """One tenant for all tests, which roll back what they change."""
    made = tenant_create(name=f"guarded {uuid4().hex[:12]}")
    yield made
    remove(made)


@pytest.fixture
def connection(log: Log) -> Iterator[BaseDatabaseWrapper]:
    """A superuser's Django connection; every change made with it is rolled back."""
    name = psycopg.conninfo.conninfo_to_dict(log.superuser_url)["dbname"]
    with (
        superuser_connection(log.superuser_url, str(name)) as found,
        transaction.atomic(using=found.alias),
    ):
        yield found
        transaction.set_rollback(True, using=found.alias)


@pytest.fixture
def roles(log: Log, tenant: Tenant) -> LogRoles:
    return control_roles() if log.table == "control_audit_logs" else tenant_roles(tenant)


@pytest.mark.parametrize(("statement", "told"), ATTACKS)
def test_changed_guards_are_reported(
    connection: BaseDatabaseWrapper, log: Log, roles: LogRoles, statement: str, told: str
) -> None:
    names = {"log": log.table, "head": log.head, "application": roles.application, "owner": roles.owner}
    with connection.cursor() as cursor:
        cursor.execute(statement.format(**names))
    found = guard_problems(_kind(log), guards_read(connection, _kind(log), roles))
    assert any(told.format(**names) in one for one in found), found


def test_a_fresh_log_has_its_guards(connection: BaseDatabaseWrapper, log: Log, roles: LogRoles) -> None:
    found = guards_read(connection, _kind(log), roles)
    assert found == EXPECTED[_kind(log)]
    assert guards_hash(found) in KNOWN[_kind(log)]


@pytest.mark.parametrize("kind", sorted(TABLES.keys() - {"tenant"}))
def test_the_application_itself_sees_the_guards_of_the_control_database(kind: str) -> None:
    assert guards_read(connections["default"], kind, control_roles()) == EXPECTED[kind]


@pytest.mark.parametrize("kind", sorted(TABLES))
def test_the_known_hash_is_that_of_the_expected_guards(kind: str) -> None:
    assert guards_hash(dict(EXPECTED[kind])) in KNOWN[kind]


@pytest.fixture
def external_server() -> Iterator[DatabaseServer]:
    try:
        connection = psycopg.connect(EXTERNAL, autocommit=True)
    except psycopg.OperationalError:
        pytest.skip("there is no PostgreSQL at EXTERNAL_POSTGRES_URL")
    with connection:
        server = server_register(name="external", admin_url=EXTERNAL)
        yield server
        _clear(connection, server)


@pytest.mark.external
def test_guards_read_the_same_on_another_server_version(
    external_server: DatabaseServer, make_tenant: MakeTenant
) -> None:
    tenant = make_tenant(server_name="external")
    with owner_connection(external_server, database_of(tenant), "test") as connection:
        assert guards_read(connection, "tenant", tenant_roles(tenant)) == EXPECTED["tenant"]


def _clear(server: psycopg.Connection, registered: DatabaseServer) -> None:
    names = server.execute("SELECT datname FROM pg_database WHERE starts_with(datname, 'seo_gen_')").fetchall()
    for (name,) in names:
        server.execute(psycopg.sql.SQL("DROP DATABASE {}").format(psycopg.sql.Identifier(name)))
    roles = server.execute("SELECT rolname FROM pg_roles WHERE starts_with(rolname, 'seo_gen_')").fetchall()
    for (name,) in roles:
        server.execute(psycopg.sql.SQL("DROP ROLE {}").format(psycopg.sql.Identifier(name)))
    registered.delete()


def _kind(log: Log) -> str:
    return "control" if log.table == "control_audit_logs" else "tenant"
