import gc
import threading
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import connections, transaction
from pytest_django import Settings

from config.stack.process import wait_until
from runs.models import Run
from tenants.errors import (
    InvalidDatabaseURL,
    TenantConnectionsExhausted,
    TenantIdentityMismatch,
    TenantUnreachable,
)
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tenants.routing.pool import pool
from tests.support.superuser import superuser_url
from tests.support.tenant_fixtures import MakeTenant
from tests.tenants.support.filled import as_superuser


@pytest.fixture(autouse=True)
def empty_pool() -> None:
    assert pool.count() == len(pool._idle), "an earlier test still holds a connection"
    close_idle()


def close_idle() -> None:
    """Close the idle connections, such as those that earlier tests have left."""
    for idle in list(pool._idle):
        pool.discard(idle.alias)


def backend_pid(tenant: Tenant) -> int:
    with tenant_context(tenant) as alias, connections[alias].cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        pid: int = cursor.fetchone()[0]
        return pid


def test_a_warm_connection_is_used_again(tenant: Tenant) -> None:
    assert backend_pid(tenant) == backend_pid(tenant)
    assert pool.count() == 1


def test_no_more_connections_are_open_than_allowed(make_tenant: MakeTenant, settings: Settings) -> None:
    settings.TENANT_CONNECTIONS_MAX = 2
    tenants = [make_tenant() for _ in range(4)]
    for tenant in tenants * 2:
        backend_pid(tenant)
        assert pool.count() <= 2


def test_the_least_recently_used_is_closed_first(make_tenant: MakeTenant, settings: Settings) -> None:
    settings.TENANT_CONNECTIONS_MAX = 2
    first, second, third = (make_tenant() for _ in range(3))
    pids = {tenant.id: backend_pid(tenant) for tenant in (first, second)}
    assert backend_pid(first) == pids[first.id]
    backend_pid(third)
    assert backend_pid(first) == pids[first.id]
    assert backend_pid(second) != pids[second.id]


def test_a_thread_waits_for_its_tenants_connection_before_it_closes_anothers(
    tenant_pair: tuple[Tenant, Tenant], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.TENANT_CONNECTIONS_MAX = 2
    monkeypatch.setattr("tenants.routing.pool.EVICTION_WAIT_S", 30.0)
    first, second = tenant_pair
    idle = backend_pid(second)
    found: list[int] = []

    def other() -> None:
        found.append(backend_pid(first))
        connections["default"].close()

    thread = threading.Thread(target=other)
    with tenant_context(first):
        Run.objects.count()
        thread.start()
        assert wait_until(lambda: bool(pool._condition._waiters), 30)  # type: ignore[attr-defined]
    thread.join(30)
    assert found == [backend_pid(first)]
    assert backend_pid(second) == idle


def test_after_that_wait_the_idle_connection_is_closed(
    tenant_pair: tuple[Tenant, Tenant], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.TENANT_CONNECTIONS_MAX = 2
    monkeypatch.setattr("tenants.routing.pool.EVICTION_WAIT_S", 0.01)
    first, second = tenant_pair
    backend_pid(second)
    found: list[int] = []

    def other() -> None:
        found.append(backend_pid(first))
        connections["default"].close()

    thread = threading.Thread(target=other)
    with tenant_context(first), connections[first.alias].cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        mine = cursor.fetchone()[0]
        thread.start()
        thread.join(30)
    assert found and found != [mine]
    assert {idle.alias for idle in pool._idle} == {first.alias}


def test_if_all_are_in_use_the_next_waits_and_then_gets_one(
    tenant_pair: tuple[Tenant, Tenant], settings: Settings
) -> None:
    settings.TENANT_CONNECTIONS_MAX = 1
    close_idle()
    first, second = tenant_pair
    waiting, finished = threading.Event(), threading.Event()

    def other() -> None:
        waiting.set()
        backend_pid(second)
        finished.set()
        connections["default"].close()

    thread = threading.Thread(target=other)
    with tenant_context(first):
        Run.objects.count()
        thread.start()
        waiting.wait(30)
        assert not finished.is_set()
    thread.join(30)
    assert finished.is_set()


def test_if_no_connection_is_returned_the_limit_is_named(
    tenant_pair: tuple[Tenant, Tenant], settings: Settings
) -> None:
    settings.TENANT_CONNECTIONS_MAX, settings.TENANT_CONNECTION_WAIT_S = 1, 0.05
    close_idle()
    with tenant_context(tenant_pair[0]):
        Run.objects.count()
        with (
            tenant_context(tenant_pair[1]),
            pytest.raises(TenantConnectionsExhausted, match=r"all tenant connections of this process \(1\)"),
        ):
            Run.objects.count()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_thread_that_ends_inside_a_context_frees_its_place(tenant: Tenant) -> None:
    def leave_open() -> None:
        tenant_context(tenant).__enter__()
        Run.objects.count()
        connections["default"].close()

    thread = threading.Thread(target=leave_open)
    thread.start()
    thread.join()
    gc.collect()
    assert pool.count() == len(pool._idle)


def test_a_connection_that_the_server_ended_is_replaced(tenant: Tenant) -> None:
    pid = backend_pid(tenant)
    assert tenant.server is not None
    with psycopg.connect(superuser_url(tenant.server.admin_url), autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    assert backend_pid(tenant) != pid


def test_a_raised_version_drops_the_warm_connection(tenant: Tenant) -> None:
    pid = backend_pid(tenant)
    Tenant.objects.filter(pk=tenant.pk).update(connection_version=1)
    assert backend_pid(tenant) != pid


def test_a_connection_of_an_old_version_is_not_kept(tenant: Tenant) -> None:
    def use_it_too() -> None:
        backend_pid(tenant)
        connections["default"].close()

    with tenant_context(tenant):
        Run.objects.count()
        Tenant.objects.filter(pk=tenant.pk).update(connection_version=1)
        thread = threading.Thread(target=use_it_too)
        thread.start()
        thread.join()
    assert {idle.generation.split(":")[0] for idle in pool._idle} == {"1"}


def test_a_connection_left_in_a_transaction_is_closed(tenant: Tenant) -> None:
    def fail_half_way() -> None:
        with tenant_context(tenant) as alias, transaction.atomic(using=alias):
            Run.objects.using(alias).create(status="pending")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    with tenant_context(tenant):
        assert Run.objects.count() == 0


def test_a_url_that_leads_to_another_tenants_database_is_refused(tenant_pair: tuple[Tenant, Tenant]) -> None:
    first, second = tenant_pair
    Tenant.objects.filter(pk=first.pk).update(database_url=second.database_url)
    with (
        tenant_context(first),
        pytest.raises(TenantIdentityMismatch, match=f"Tenant {first.id}: .* URL belongs to tenant {second.id}, so"),
    ):
        Run.objects.count()


def test_a_url_that_leads_to_no_tenants_database_is_refused(tenant: Tenant) -> None:
    assert tenant.server is not None
    Tenant.objects.filter(pk=tenant.pk).update(database_url=tenant.server.admin_url)
    with tenant_context(tenant), pytest.raises(TenantIdentityMismatch, match="behind its URL cannot be read, so"):
        Run.objects.count()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (None, "has no identity"),
        (("", uuid4()), "belongs to another tenant that has the same id"),
        (("another", uuid4()), "belongs to tenant another"),
    ],
)
def test_each_kind_of_foreign_database_has_a_sentence(
    tenant: Tenant, row: tuple[str, UUID] | None, reason: str
) -> None:
    with as_superuser(tenant) as connection:
        connection.execute("DELETE FROM tenant_identity")
        if row:
            values = (row[0] or tenant.id, row[1])
            connection.execute("INSERT INTO tenant_identity (tenant_id, identity) VALUES (%s, %s)", values)
    sentence = rf"^Tenant {tenant.id}: the database behind its URL {reason}, so the connection was refused\."
    with tenant_context(tenant), pytest.raises(TenantIdentityMismatch, match=sentence):
        Run.objects.count()


@pytest.mark.parametrize(
    "url", ["", "nonsense", "mysql://u:secret@h/d", "postgresql://u:secret@h", "postgresql://u:secret@[::1/d"]
)
def test_an_invalid_url_is_reported_without_repeating_it(tenant: Tenant, url: str) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(database_url=url)
    with (
        pytest.raises(InvalidDatabaseURL, match=f"Tenant {tenant.id}: its database URL") as refusal,
        tenant_context(tenant),
    ):
        pass
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("url", ["postgresql://u:secret@127.0.0.1:9/d", "postgresql://u:secret@nowhere.invalid/d"])
def test_a_database_that_does_not_answer_is_named(tenant: Tenant, url: str) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(database_url=url)
    with tenant_context(tenant), pytest.raises(TenantUnreachable, match=f"Tenant {tenant.id}: its database") as refusal:
        Run.objects.count()
    assert "secret" not in str(refusal.value)
