"""The check at the end of every test: it finds leaks that would make other tests fail, and cleans them up."""

import gc
import threading

import pytest
from django.db import connections, transaction

from audit.log.actor import SYSTEM, acting_as, current_actor
from runs.models import Run
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tenants.routing.pool import pool
from tests.support import leaks


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "PATIENCE_S", 0.1)


def test_nothing_is_left_by_a_test_that_leaves_nothing(tenant: Tenant) -> None:
    with tenant_context(tenant):
        Run.objects.count()
    assert leaks.found() == []


def test_a_collector_that_is_off_is_named_and_turned_on() -> None:
    gc.disable()
    assert leaks.found() == ["garbage is no longer collected"]
    leaks.repair()
    assert gc.isenabled() and leaks.found() == []


def test_a_thread_that_holds_a_tenants_connection_is_named_and_its_place_freed(tenant: Tenant) -> None:
    holding, go_on = threading.Event(), threading.Event()
    failures: list[str] = []

    def hold() -> None:
        try:
            with tenant_context(tenant):
                Run.objects.count()
                holding.set()
                go_on.wait()
                Run.objects.count()
        except Exception as error:
            failures.append(type(error).__name__)
        finally:
            connections["default"].close()

    thread = threading.Thread(target=hold, name="forgotten thread")
    thread.start()
    assert holding.wait(30)
    [sentence] = leaks.found()
    assert (
        "still in use" in sentence
        and "forgotten thread" in sentence
        and tenant.database_url.endswith(sentence.split("(")[1].split(")")[0])
    )
    leaks.repair()
    assert leaks.found() == [] and pool.count() == len(pool._idle)
    go_on.set()
    thread.join()
    assert failures == ["OperationalError"]
    with tenant_context(tenant):
        assert Run.objects.count() == 0


def test_a_thread_that_is_about_to_end_is_no_leak(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "PATIENCE_S", 60.0)
    holding = threading.Event()

    def hold() -> None:
        with tenant_context(tenant):
            Run.objects.count()
            holding.set()
        connections["default"].close()

    thread = threading.Thread(target=hold)
    thread.start()
    assert holding.wait(30)
    assert leaks.found() == []
    thread.join()


def test_a_context_that_was_not_left_is_left(tenant: Tenant) -> None:
    tenant_context(tenant).__enter__()
    Run.objects.count()
    assert leaks.found() == [f"tenant {tenant.id} is still active"]
    leaks.repair()
    assert leaks.found() == []


def test_a_transaction_that_was_not_ended_is_ended() -> None:
    transaction.atomic(using="default").__enter__()
    assert leaks.found() == ["a transaction of the control database is still open"]
    leaks.repair()
    assert leaks.found() == []
    assert not connections["default"].in_atomic_block


def test_an_actor_that_was_not_reset_is_reset() -> None:
    forgotten = acting_as("operator:ann")
    forgotten.__enter__()
    assert leaks.found() == ["operator:ann is still the actor"]
    leaks.repair()
    assert (leaks.found(), current_actor()) == ([], SYSTEM)
