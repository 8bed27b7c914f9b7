"""What the application's role may not do to a log, and what the guards keep even a superuser from doing."""

from collections.abc import Iterator
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from audit.log.chain_sql import BIND_CHAIN_SQL
from tenants.lifecycle.create import tenant_create
from tenants.models import Tenant
from tests.audit.conftest import Log
from tests.support.tenant_fixtures import remove

AS_THE_APPLICATION = [
    "UPDATE {log} SET action = 'forged'",
    "DELETE FROM {log}",
    "TRUNCATE {log}",
    "DROP TABLE {log}",
    "ALTER TABLE {log} DISABLE TRIGGER ALL",
    "DROP TRIGGER prevent_audit_log_modification ON {log}",
    "CREATE TRIGGER mine BEFORE INSERT ON {log} EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "CREATE RULE mine AS ON INSERT TO {log} DO INSTEAD NOTHING",
    "CREATE TABLE mine (id integer REFERENCES {log} ON DELETE CASCADE)",
    "SELECT * FROM {log} FOR UPDATE",
    "SELECT * FROM {head}",
    "UPDATE {head} SET sequence = 0",
    "DELETE FROM {head}",
    "INSERT INTO {head} (hash) VALUES ('')",
    "SELECT chain_{log}()",
    "CREATE OR REPLACE FUNCTION chain_{log}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    "SET session_replication_role = replica",
]


@pytest.fixture(scope="module")
def tenant() -> Iterator[Tenant]:
    """One tenant for all tests, which roll back what they change."""
    made = tenant_create(name=f"guarded {uuid4().hex[:12]}")
    yield made
    remove(made)


@pytest.mark.parametrize("statement", AS_THE_APPLICATION)
def test_application_role_may_only_read_and_append(app: psycopg.Connection, log: Log, statement: str) -> None:
    app.execute(log.insert)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.execute(statement.format(log=log.table, head=log.head))


def test_application_role_cannot_attach_the_chain_trigger_to_its_own_table(tenant_log: Log) -> None:
    login, database = urlsplit(tenant_log.app_url).username or "", urlsplit(tenant_log.app_url).path.lstrip("/")
    with tenant_log.as_superuser() as superuser:
        # A server's own administrator may have allowed temporary tables.
        superuser.execute(sql.SQL("GRANT TEMPORARY ON DATABASE {} TO PUBLIC").format(sql.Identifier(database)))
        superuser.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(login)))
        superuser.execute("CREATE TEMPORARY TABLE mine (LIKE audit_logs)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="denied for function"):
            superuser.execute(
                "CREATE TRIGGER mine BEFORE INSERT ON mine FOR EACH ROW EXECUTE FUNCTION public.chain_audit_logs()"
            )
        superuser.rollback()


def test_a_table_of_the_same_name_earlier_in_the_search_path_is_ignored(log: Log) -> None:
    with log.as_superuser() as superuser:
        superuser.execute(f"CREATE TEMPORARY TABLE {log.head} (sequence bigint, hash text)")
        superuser.execute(f"INSERT INTO pg_temp.{log.head} VALUES (41, 'forged')")
        row = superuser.execute(f"{log.insert} RETURNING previous_hash").fetchone()
        assert row is not None and row[0] != "forged"
        superuser.rollback()


@pytest.mark.parametrize("role", ["origin", "replica", "local"])
@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE {log} SET action = 'forged'", "{log} table does not allow UPDATE or DELETE"),
        ("DELETE FROM {log}", "{log} table does not allow UPDATE or DELETE"),
        ("TRUNCATE {log}", "{log} table does not allow TRUNCATE"),
        ("DELETE FROM {head}", "{head} table does not allow DELETE or TRUNCATE"),
        ("TRUNCATE {head}", "{head} table does not allow DELETE or TRUNCATE"),
    ],
)
def test_guards_stop_a_superuser_too(
    superuser: psycopg.Connection, log: Log, statement: str, message: str, role: str
) -> None:
    superuser.execute(log.insert)
    superuser.execute(f"SET session_replication_role = {role}")
    with pytest.raises(psycopg.errors.RaiseException, match=f"^{message.format(log=log.table, head=log.head)}"):
        superuser.execute(statement.format(log=log.table, head=log.head))


def test_the_chain_continues_under_replica_role(superuser: psycopg.Connection, log: Log) -> None:
    superuser.execute("SET session_replication_role = replica")
    row = superuser.execute(f"{log.insert} RETURNING sequence, entry_hash").fetchone()
    assert row is not None
    assert superuser.execute(f"SELECT sequence, hash FROM {log.head}").fetchall() == [row]


def test_the_head_has_exactly_one_row(superuser: psycopg.Connection, log: Log) -> None:
    for only_row in ("true", "false"):
        with pytest.raises(psycopg.errors.IntegrityError), superuser.transaction():
            superuser.execute(f"INSERT INTO {log.head} (only_row, hash) VALUES ({only_row}, '')")


def test_guards_carry_the_specified_names_and_are_always_on(superuser: psycopg.Connection, log: Log) -> None:
    triggers = superuser.execute(
        "SELECT tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal AND tgrelid = ANY (%s::regclass[])",
        [[log.table, log.head]],
    ).fetchall()
    assert dict(triggers) == {
        "prevent_audit_log_modification": "A",
        "prevent_audit_log_truncation": "A",
        f"chain_{log.table}": "A",
        "prevent_audit_chain_head_removal": "A",
    }


def test_a_chain_is_bound_to_its_tenant_only_once(tenant_log: Log) -> None:
    identity = "00000000-0000-0000-0000-000000000000"
    with tenant_log.as_superuser() as superuser:
        superuser.execute(tenant_log.insert)
        before = superuser.execute("SELECT * FROM audit_chain_heads").fetchall()
        assert superuser.execute(BIND_CHAIN_SQL, [identity]).rowcount == 0
        assert superuser.execute("SELECT * FROM audit_chain_heads").fetchall() == before
        superuser.rollback()
