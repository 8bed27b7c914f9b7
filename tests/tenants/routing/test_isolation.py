"""Tenants are isolated in PostgreSQL itself, and in Python under any interleaving."""

import asyncio
import random
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from psycopg import sql

from runs.models import Run
from tenants.lifecycle.create import tenant_create
from tenants.models import Tenant
from tenants.routing.context import current_tenant, tenant_context
from tenants.servers.session import parse_location
from tests.support.tenant_fixtures import MakeTenant, cloning_fast, remove

DDL = [
    "CREATE TABLE mine (id int)",
    "CREATE TEMPORARY TABLE mine (id int)",
    "CREATE SCHEMA mine",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE VIEW mine AS SELECT 1",
    "ALTER TABLE runs ADD COLUMN mine int",
    "ALTER TABLE audit_logs DISABLE TRIGGER ALL",
    "DROP TABLE runs",
    "DROP VIEW run_costs",
    "DROP TRIGGER prevent_audit_log_modification ON audit_logs",
    "CREATE INDEX mine ON runs (status)",
    "TRUNCATE runs CASCADE",
    "CREATE DATABASE mine",
    "CREATE ROLE mine",
    "CREATE EXTENSION pg_stat_statements",
    "SET ROLE seo_gen_owner",
    "SET session_replication_role = replica",
]
FORBIDDEN_WRITES = [
    "UPDATE audit_logs SET action = 'x'",
    "DELETE FROM audit_logs",
    "TRUNCATE audit_logs",
    "SELECT * FROM audit_chain_heads",
    "UPDATE audit_chain_heads SET sequence = 0",
    "UPDATE tenant_identity SET tenant_id = 'other'",
    "DELETE FROM tenant_identity",
    "INSERT INTO tenant_identity (only_row, tenant_id, identity) VALUES (false, 'x', gen_random_uuid())",
    "UPDATE django_migrations SET name = 'x'",
]


@pytest.fixture
def own_connection(tenant: Tenant) -> Iterator[psycopg.Connection]:
    """Yield a connection with the tenant's own credentials that bypasses our Python code."""
    with psycopg.connect(tenant.database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def refused_connection() -> Iterator[psycopg.Connection]:
    """Yield a connection like `own_connection`, to a tenant that tests share: everything they try is refused."""
    with cloning_fast():
        tenant = tenant_create(name="isolated")
    with psycopg.connect(tenant.database_url, autocommit=True) as connection:
        yield connection
    remove(tenant)


def test_a_tenants_role_cannot_connect_to_any_other_database(tenant_pair: tuple[Tenant, Tenant]) -> None:
    first, second = tenant_pair
    others = [parse_location(second.database_url).database, "seo_gen_control", "postgres", "template1"]
    for database in others:
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(first.database_url, dbname=database)


def test_a_tenants_password_opens_no_other_role(tenant_pair: tuple[Tenant, Tenant]) -> None:
    first, second = tenant_pair
    other = parse_location(second.database_url)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(first.database_url, dbname=other.database, user=other.role)


@pytest.mark.parametrize("statement", DDL + FORBIDDEN_WRITES)
def test_a_tenants_role_can_neither_change_the_schema_nor_history(
    statement: str, refused_connection: psycopg.Connection
) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        refused_connection.execute(sql.SQL(statement))


def test_a_tenants_role_owns_nothing_and_has_no_power(own_connection: psycopg.Connection, tenant: Tenant) -> None:
    role = parse_location(tenant.database_url).role
    owned = own_connection.execute("SELECT count(*) FROM pg_class WHERE relowner = %s::regrole", [role]).fetchone()
    powers = own_connection.execute(
        "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles WHERE rolname = %s",
        [role],
    ).fetchone()
    assert owned == (0,)
    assert powers == (False,) * 5


def test_a_tenants_role_can_do_its_work(own_connection: psycopg.Connection) -> None:
    run = own_connection.execute("INSERT INTO runs (status) VALUES ('pending') RETURNING id").fetchone()
    assert run is not None
    own_connection.execute("INSERT INTO steps (run_id, step, status) VALUES (%s, 's', 'pending')", [run[0]])
    own_connection.execute(
        "INSERT INTO audit_logs (user_id, action, resource_type, resource_id) VALUES ('u','a','r','1')"
    )
    own_connection.execute("UPDATE runs SET status = 'failed' WHERE id = %s", [run[0]])
    assert own_connection.execute("SELECT count(*) FROM run_costs").fetchone() == (1,)


@pytest.fixture
def marked(make_tenant: MakeTenant) -> dict[str, uuid.UUID]:
    """Create three tenants with one run each; return {tenant id: run id}."""
    runs = {}
    for _ in range(3):
        tenant = make_tenant()
        with tenant_context(tenant) as alias:
            runs[tenant.id] = Run.objects.using(alias).create(status="completed", config={"of": tenant.id}).id
    return runs


def seen(tenant_id: str) -> list[uuid.UUID]:
    with tenant_context(tenant_id):
        assert current_tenant().id == tenant_id
        return list(Run.objects.values_list("id", flat=True))


def test_threads_never_see_each_others_rows(marked: dict[str, uuid.UUID]) -> None:
    chooser = random.Random(1)
    order = [chooser.choice(sorted(marked)) for _ in range(200)]

    def visit(tenant_id: str) -> list[uuid.UUID]:
        try:
            return seen(tenant_id)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(visit, order)) == [[marked[tenant_id]] for tenant_id in order]


def test_async_tasks_never_see_each_others_rows(marked: dict[str, uuid.UUID]) -> None:
    chooser = random.Random(2)

    async def visit(tenant_id: str) -> None:
        async with tenant_context(tenant_id):
            for _ in range(chooser.randrange(1, 4)):
                await asyncio.sleep(0)
                assert current_tenant().id == tenant_id
                assert [run.id async for run in Run.objects.all()] == [marked[tenant_id]]
                assert await sync_to_async(seen)(tenant_id) == [marked[tenant_id]]

    async def all_at_once() -> None:
        await asyncio.gather(*[visit(chooser.choice(sorted(marked))) for _ in range(60)])
        await sync_to_async(connections.close_all)()

    asyncio.run(all_at_once())


def test_nested_contexts_come_back_to_the_outer_tenant(marked: dict[str, uuid.UUID]) -> None:
    first, second, third = sorted(marked)
    with tenant_context(first):
        with tenant_context(second), tenant_context(third):
            assert seen(first) == [marked[first]]
            assert list(Run.objects.values_list("id", flat=True)) == [marked[third]]
        with tenant_context(first):
            pass
        assert list(Run.objects.values_list("id", flat=True)) == [marked[first]]


def test_a_new_thread_starts_without_a_tenant(tenant: Tenant) -> None:
    found: list[object] = []

    def ask() -> None:
        try:
            found.append(current_tenant())
        except Exception as error:
            found.append(type(error).__name__)

    with tenant_context(tenant):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    assert found == ["NoActiveTenant"]


def test_a_tenants_role_cannot_bind_its_database_to_somebody_else(
    own_connection: psycopg.Connection, tenant: Tenant
) -> None:
    bound = own_connection.execute(
        "SELECT tenant_id, identity FROM bind_tenant('other', gen_random_uuid(), 'me', NULL)"
    ).fetchone()
    assert bound == (tenant.id, tenant.identity)
    assert own_connection.execute("SELECT count(*) FROM audit_logs").fetchone() == (1,)
