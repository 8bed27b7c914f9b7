"""Someone with a tenant's password can harm only that tenant's database, and `tenant status` reports it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
from django.conf import settings
from django.db import connections
from psycopg import sql

from config.base.databases import CONTROL
from runs.models import Run
from tenants.backup.backup import tenant_backup
from tenants.lifecycle.rotate import tenant_rotate
from tenants.lifecycle.status import TenantHealth, tenant_statuses
from tenants.lifecycle.suspend import tenant_resume, tenant_suspend
from tenants.models import DatabaseServer, Tenant, database_prefix
from tenants.naming import work_name
from tenants.restore.workflow import work_of
from tenants.routing.context import tenant_context
from tenants.servers.session import ServerSession, parse_location
from tests.support.tenant_fixtures import MakeTenant
from tests.tenants.support.filled import add_run

# Everything that any role may read in a server's shared catalogs and statistics, one text per row.
VISIBLE = """
SELECT datname || coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database
UNION ALL SELECT rolname || coalesce(shobj_description(oid, 'pg_authid'), '') FROM pg_roles
UNION ALL SELECT concat(datname, usename, application_name, query) FROM pg_stat_activity
UNION ALL SELECT concat(gid, owner, database) FROM pg_prepared_xacts
UNION ALL SELECT setconfig::text FROM pg_db_role_setting
UNION ALL SELECT slot_name FROM pg_replication_slots
UNION ALL SELECT spcname FROM pg_tablespace
"""


def health_of(tenant: Tenant) -> TenantHealth:
    [health] = tenant_statuses(tenant_id=tenant.id, check=True)
    return health


def as_role(tenant: Tenant) -> psycopg.Connection:
    """Connect as someone with the role's password, without our Python code."""
    return psycopg.connect(tenant.database_url, autocommit=True)


def assert_unharmed(neighbour: Tenant, folder: Path) -> None:
    """Check that another tenant and the control database work with new connections."""
    connections[CONTROL].close()
    add_run(neighbour)
    with tenant_context(neighbour) as alias:
        assert Run.objects.using(alias).exists()
    assert health_of(neighbour).problem is None
    tenant_suspend(tenant_id=neighbour.id)
    tenant_resume(tenant_id=neighbour.id)
    [outcome] = tenant_backup(tenant_id=neighbour.id, output=str(folder))
    assert outcome.problem == ""


@contextmanager
def connected_often(tenant: Tenant, attempts: int) -> Iterator[int]:
    """Try to open this many connections as the tenant's role; yield how many succeeded."""
    with ExitStack() as stack:
        opened = 0
        for _ in range(attempts):
            try:
                stack.enter_context(as_role(tenant))
                opened += 1
            except psycopg.OperationalError:
                pass
        yield opened


def test_five_hundred_connections(tenant_pair: tuple[Tenant, Tenant], tmp_path: Path) -> None:
    tenant, neighbour = tenant_pair
    with connected_often(tenant, 500) as opened:
        assert opened == settings.TENANT_ROLE_CONNECTIONS
        assert_unharmed(neighbour, tmp_path)
        health = health_of(tenant)
        assert health.reachable is False and health.problem is not None
        assert "too many connections for role" in health.problem
        # Those who must can still enter its database.
        assert health.large_objects == 0
        tenant_rotate(tenant_id=tenant.id, grace_s=0)
        assert health_of(tenant).problem is None


def test_all_tenants_together_leave_slots_for_the_product(make_tenant: MakeTenant) -> None:
    with psycopg.connect(DatabaseServer.objects.get(pk="main").admin_url) as administrator:
        [(slots,)] = administrator.execute("SELECT current_setting('max_connections')::int").fetchall()
        tenants = [make_tenant() for _ in range(slots // settings.TENANT_ROLE_CONNECTIONS + 1)]
        with ExitStack() as stack:
            for tenant in tenants:
                stack.enter_context(connected_often(tenant, settings.TENANT_ROLE_CONNECTIONS))
            with pytest.raises(psycopg.OperationalError, match="reserved"):
                as_role(tenants[-1])
            connections[CONTROL].close()
            assert Tenant.objects.filter(pk=tenants[0].pk).exists()


def test_a_password_of_its_own(tenant_pair: tuple[Tenant, Tenant], tmp_path: Path) -> None:
    tenant, neighbour = tenant_pair
    with as_role(tenant) as connection:
        connection.execute("ALTER ROLE CURRENT_USER PASSWORD 'mine'")
    assert_unharmed(neighbour, tmp_path)
    problem = health_of(tenant).problem
    assert problem is not None and "password authentication failed" in problem and "tenant rotate" in problem


@pytest.mark.parametrize(
    "call",
    [
        *("lo_create(0)", "lo_creat(1)", "lo_from_bytea(0, 'x')", "lo_open(1, 1)"),
        *("pg_advisory_lock(1)", "pg_try_advisory_xact_lock(1, 2)", "pg_advisory_xact_lock_shared(1)"),
    ],
)
def test_what_takes_from_all_or_hides_data_is_not_for_it(tenant: Tenant, call: str) -> None:
    """Advisory locks of all databases share one table; large objects are in none of our tables."""
    with as_role(tenant) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(f"SELECT {call}".encode())


def test_a_prepared_transaction_that_holds_locks(
    tenant_pair: tuple[Tenant, Tenant], tmp_path: Path, limits: Callable[..., None]
) -> None:
    limits(lock_timeout_s=0.5)
    tenant, neighbour = tenant_pair
    with psycopg.connect(tenant.database_url) as connection:
        connection.execute("LOCK TABLE runs IN ACCESS EXCLUSIVE MODE")
        connection.execute("PREPARE TRANSACTION 'foreign-1'")
    assert_unharmed(neighbour, tmp_path)
    assert health_of(tenant).role_changes == ["The role has 1 prepared transaction."]
    tenant_rotate(tenant_id=tenant.id)
    with tenant_context(tenant) as alias:
        assert not Run.objects.using(alias).exists()


@pytest.mark.parametrize(
    ("statement", "change"),
    [
        (
            "ALTER ROLE CURRENT_USER SET statement_timeout = 0",
            "The role has an unexpected setting: statement_timeout=0.",
        ),
        ("ALTER ROLE CURRENT_USER SET search_path = evil", "The role has an unexpected setting: search_path=evil."),
        (
            "ALTER ROLE CURRENT_USER SET role = seo_gen_tenant",
            "The role has an unexpected setting: role=seo_gen_tenant.",
        ),
        (
            "ALTER ROLE CURRENT_USER SET statement_timeout = '1ms'",
            "The role has an unexpected setting: statement_timeout=1ms.",
        ),
        (
            "ALTER ROLE CURRENT_USER SET default_transaction_read_only = on",
            "The role has an unexpected setting: default_transaction_read_only=on.",
        ),
        ("ALTER ROLE CURRENT_USER RESET ALL", "The role lacks the setting lock_timeout=60000ms."),
    ],
)
def test_defaults_of_its_own(tenant_pair: tuple[Tenant, Tenant], tmp_path: Path, statement: str, change: str) -> None:
    tenant, neighbour = tenant_pair
    with as_role(tenant) as connection:
        connection.execute(sql.SQL(statement))
    assert_unharmed(neighbour, tmp_path)
    found = health_of(tenant)
    assert found.role_changes is not None and change in found.role_changes
    assert found.problem is not None and "`seo-gen tenant rotate" in found.problem


def test_its_sessions_have_timeouts_which_they_can_only_change_for_themselves(
    tenant_pair: tuple[Tenant, Tenant], tmp_path: Path
) -> None:
    tenant, neighbour = tenant_pair
    wanted = {"statement_timeout": "5min", "lock_timeout": "1min", "idle_in_transaction_session_timeout": "1min"}
    with as_role(tenant) as connection:
        for name, value in wanted.items():
            assert connection.execute("SELECT current_setting(%s)", [name]).fetchone() == (value,)
        connection.execute("SET statement_timeout = 0")
        assert_unharmed(neighbour, tmp_path)
    with as_role(tenant) as connection:
        assert connection.execute("SHOW statement_timeout").fetchone() == ("5min",)
    assert health_of(tenant).problem is None


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER ROLE CURRENT_USER CONNECTION LIMIT -1",
        "ALTER ROLE CURRENT_USER VALID UNTIL '2020-01-01'",
        "ALTER ROLE CURRENT_USER NOLOGIN",
        "ALTER ROLE CURRENT_USER CREATEDB",
        "SET temp_file_limit = -1",
        "SET log_statement = 'all'",
        "CREATE TEMPORARY TABLE big (id int)",
    ],
)
def test_what_only_an_administrator_may(tenant: Tenant, statement: str) -> None:
    with as_role(tenant) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(sql.SQL(statement))


def test_it_reads_the_name_of_no_other_tenant(make_tenant: MakeTenant) -> None:
    """Neither the shared catalogs nor the other tenant's running sessions show the name."""
    tenant, neighbour = make_tenant(), make_tenant(name="Quite Unmistakable", tenant_id="quite-unmistakable")
    server = DatabaseServer.objects.get(pk="main")
    with (
        tenant_context(neighbour) as alias,
        connections[alias].cursor() as cursor,
        ServerSession(server, database_prefix(), work_of(neighbour)),
        ServerSession(server, database_prefix(), work_name("create", neighbour.identity)),
        as_role(tenant) as connection,
    ):
        cursor.execute("SELECT 1")
        seen = [row[0] for row in connection.execute(VISIBLE) if row[0]]
        assert any(parse_location(neighbour.database_url).database in text for text in seen)
        assert [text for text in seen if "unmistakable" in text.lower()] == []
        identities = connection.execute("SELECT tenant_id FROM tenant_identity").fetchall()
        assert identities == [(tenant.id,)]
