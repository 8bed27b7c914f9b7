"""One heartbeat renews the leases of all steps that a worker is executing, and no tenant delays another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import psycopg
import pytest
from django.db.models.functions import Now
from django.utils import timezone
from pytest_django import Settings

from config.stack.process import wait_until
from runs.models import Call, Run, Step, StepStatus
from runs.steps.in_flight import RENEWERS, InFlight
from runs.types import Claim
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tenants.schema.inspection import database_of
from tenants.servers.session import owner_url
from tests.runs.driving import execute
from tests.runs.fake_llm import FakeLLM
from tests.runs.services.states import FIRST, change_step, claim, steps_of

MakeRun = Callable[..., Run]
PATIENCE_S = 60.0


@pytest.fixture
def flights() -> Iterator[InFlight]:
    """Yield the flights of a worker that only this test uses; end them afterwards, and check that the thread ends."""
    worker = InFlight()
    yield worker
    for flight in worker._all():
        worker.end(flight)
    assert wait_until(lambda: worker._thread is None and not beating(), PATIENCE_S)


def beating() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "heartbeat"]


def claimed(tenant: Tenant, run: Run) -> Claim:
    held = claim(tenant, run)
    assert held is not None
    return held


def lease_of(tenant: Tenant, run: Run) -> datetime:
    end = steps_of(tenant, run)[FIRST].lease_expires_at
    assert end is not None
    return end


def has_lapsed(tenant: Tenant, run: Run) -> bool:
    with tenant_context(tenant) as alias:
        return Step.objects.using(alias).filter(run_id=run.pk, lease_expires_at__lt=Now()).exists()


@contextmanager
def hanging(*tenants: Tenant) -> Iterator[None]:
    """Hold a lock that every lease renewal for these tenants must wait for."""
    holders: list[psycopg.Connection] = []
    try:
        for tenant in tenants:
            assert tenant.server is not None
            holders.append(psycopg.connect(owner_url(tenant.server, database_of(tenant))))
            holders[-1].execute("LOCK TABLE steps IN ACCESS EXCLUSIVE MODE")
        yield
    finally:
        for holder in holders:
            holder.close()


def test_one_thread_renews_the_leases_of_all_steps(
    tenant_pair: tuple[Tenant, Tenant], make_run: MakeRun, flights: InFlight, settings: Settings
) -> None:
    settings.RUN_LEASE_S = 3.0
    runs = [(tenant, make_run(tenant)) for tenant in tenant_pair for _ in range(3)]
    for tenant, run in runs:
        flights.start(claimed(tenant, run), None)
    assert (flights.count(), len(beating())) == (6, 1)
    before = [lease_of(tenant, run) for tenant, run in runs]
    # Each beat adds what has passed since the last one, so a later end means that the lease was renewed.
    assert wait_until(lambda: all(lease_of(*one) > end for one, end in zip(runs, before, strict=True)), PATIENCE_S)


def test_the_thread_ends_with_the_last_step_and_begins_again(
    tenant: Tenant, make_run: MakeRun, flights: InFlight
) -> None:
    held = [claimed(tenant, make_run(tenant)) for _ in range(2)]
    first, second = (flights.start(one, None) for one in held)
    flights.end(first)
    assert (flights.count(), len(beating())) == (1, 1)
    flights.end(second)
    assert wait_until(lambda: not beating(), PATIENCE_S)
    flights.start(held[0], None)
    assert len(beating()) == 1


def test_a_step_that_begins_while_the_worker_returns_its_steps_is_returned_too(
    tenant: Tenant, run: Run, fake_llm: FakeLLM, flights: InFlight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runs.steps.execute.in_flight", flights)
    assert flights.return_all() == 0
    assert execute(tenant, run, FIRST) == "returned"
    step = steps_of(tenant, run)[FIRST]
    assert (step.status, step.retry_count, fake_llm.prompts) == (StepStatus.PENDING, 0, [])
    with tenant_context(tenant) as alias:
        assert not Call.objects.using(alias).exists()


def test_a_tenant_that_hangs_does_not_let_the_leases_of_others_lapse(
    make_tenant: Callable[..., Tenant], make_run: MakeRun, flights: InFlight, settings: Settings
) -> None:
    """One tenant hangs for so many beats that its renewals could have occupied every thread."""
    settings.RUN_LEASE_S = 3.0
    stuck, other = make_tenant(), make_tenant()
    runs = {tenant.pk: make_run(tenant) for tenant in (stuck, other)}
    for tenant in (stuck, other):
        flights.start(claimed(tenant, runs[tenant.pk]), None)
    with hanging(stuck):
        start = lease_of(other, runs[other.pk])
        enough = timedelta(seconds=settings.RUN_LEASE_S / 3) * (RENEWERS + 3)

        def is_renewed() -> bool:
            assert not has_lapsed(other, runs[other.pk])
            return lease_of(other, runs[other.pk]) - start > enough

        assert wait_until(is_renewed, PATIENCE_S)
    # It is renewed again, too, since no one has taken its step.
    end = lease_of(stuck, runs[stuck.pk])
    assert wait_until(lambda: lease_of(stuck, runs[stuck.pk]) > end, PATIENCE_S)


def test_a_call_whose_claim_was_lost_is_aborted_one_lease_later(
    tenant: Tenant, make_run: MakeRun, flights: InFlight, settings: Settings
) -> None:
    """Until then, its reply may still arrive, and its cost become known."""
    settings.RUN_LEASE_S = 0.6
    run = make_run(tenant)
    flight = flights.start(claimed(tenant, run), None)
    change_step(tenant, run, FIRST, lease_token=9, lease_expires_at=timezone.now() + timedelta(hours=1))
    assert wait_until(lambda: flight.lost_at is not None, PATIENCE_S)
    assert wait_until(lambda: flight.abort.aborted, PATIENCE_S)
    # Another worker's lease is not touched.
    assert lease_of(tenant, run) - timezone.now() > timedelta(minutes=50)
