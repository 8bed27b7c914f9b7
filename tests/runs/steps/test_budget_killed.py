"""Many workers share one budget and some are killed: it is never exceeded, and no reservation is left in the end."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from itertools import count
from multiprocessing.connection import Connection
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.db import connections
from django.db.backends.signals import connection_created
from django.utils import timezone

from llm.models import LLMModel, PriceSource
from llm.prices.history import price_add, prices_in_force
from llm.types import ModelPrices
from runs.errors import BudgetReached
from runs.models import Call, CallStatus, Run
from runs.services.create import run_create
from runs.services.resume import run_resume
from runs.steps.call import CallEnd, call_begin, call_settle
from runs.steps.claim import step_claim
from runs.steps.finish import EndedCall, step_pause, step_return
from runs.types import Claim
from tenants.lifecycle.budget import tenant_budget_set
from tenants.models import Tenant
from tenants.naming import TENANT_PREFIX
from tenants.routing.context import tenant_context
from tests.runs.services.states import FIRST, change_step, claim, steps_of
from tests.support.forked import forked

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1200)]
MakeRun = Callable[..., Run]
WORKERS = 16
# 600 in the usual tests; 10,000 with CHAOS_ROUNDS=100.
CALLS = 100 * int(os.environ.get("CHAOS_ROUNDS", "6"))
INPUT, OUTPUT = 50, 100
# USD per 1,000 tokens, and the most that a call costs then.
PRICE, BOUND = Decimal("1"), Decimal("0.15")
# Reached when about two thirds of the calls were made: a call costs 0.06 on average.
BUDGET = Decimal("0.04") * CALLS
# What the budget is compared with, and what it must be by the calls themselves, at one moment.
SUMS = """
SELECT (SELECT coalesce(sum(spent_usd + reserved_usd + possible_usd), 0) FROM public.spending),
       (SELECT coalesce(sum(reserved_usd), 0) FROM public.spending),
       coalesce(sum(CASE WHEN status = 'settled' THEN cost_usd ELSE bound_usd END), 0)
  FROM public.calls
"""


@pytest.fixture(autouse=True)
def prices() -> Iterator[None]:
    before = {row: prices_in_force(row.pk) for row in LLMModel.objects.all()}
    for row in before:
        price_add(model=row, prices=ModelPrices({"input": PRICE, "output": PRICE}), source=PriceSource.HAND)
    yield
    for row, held in before.items():
        price_add(model=row, prices=held, source=PriceSource.HAND)


@dataclass
class Observer:
    """Checks, until `stopped` is set, that what counts against the budget agrees with the calls and stays within it."""

    url: str
    stopped: threading.Event
    looks: int = 0

    def __call__(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            while not self.stopped.is_set():
                row = connection.execute(SUMS).fetchone()
                assert row is not None
                counted, _reserved, by_calls = row
                assert counted == by_calls and counted <= BUDGET
                self.looks += 1


class Worker:
    """Makes calls of one run's first step.

    Each call is, at random, settled, interrupted, or left by a killed or frozen worker.
    """

    def __init__(self, tenant: Tenant, run: Run, seed: int) -> None:
        self.tenant, self.run, self.random = tenant, run, random.Random(seed)
        self.begun = self.refused = 0

    def __call__(self, rounds: int) -> None:
        try:
            for _round in range(rounds):
                self._make_a_call()
            # Another worker takes over what a killed one has left.
            self._lapse()
            self._return(self._claim(), None)
        finally:
            connections["default"].close()

    def _make_a_call(self) -> None:
        held = self._claim()
        try:
            with tenant_context(self.tenant) as alias:
                call_id = call_begin(alias=alias, claim=held, max_input_tokens=INPUT, max_output_tokens=OUTPUT)
        except BudgetReached as error:
            self.refused += 1
            with tenant_context(self.tenant) as alias:
                step_pause(alias=alias, claim=held, error=error)
            run_resume(tenant_id=self.tenant.pk, run_id=self.run.pk)
            return
        assert call_id is not None
        self.begun += 1
        self.random.choice((self._settle, self._settle, self._break_off, self._kill, self._freeze))(held, call_id)

    def _settle(self, held: Claim, call_id: int) -> None:
        self._return(held, EndedCall(call_id, self._end()))

    def _break_off(self, held: Claim, call_id: int) -> None:
        self._return(held, EndedCall(call_id, None))

    def _kill(self, held: Claim, call_id: int) -> None:
        self._lapse()

    def _freeze(self, held: Claim, call_id: int) -> None:
        """Lose the claim, and settle the call while another worker has the step."""
        self._lapse()
        other = self._claim()
        with tenant_context(self.tenant) as alias:
            call_settle(alias=alias, claim=held, call_id=call_id, end=self._end())
        self._return(other, None)

    def _claim(self) -> Claim:
        held = claim(self.tenant, self.run)
        assert held is not None
        return held

    def _lapse(self) -> None:
        change_step(self.tenant, self.run, FIRST, lease_expires_at=timezone.now() - timedelta(seconds=1), lost_count=0)

    def _return(self, held: Claim, call: EndedCall | None) -> None:
        with tenant_context(self.tenant) as alias:
            step_return(alias=alias, claim=held, reason="worker stopped", call=call)

    def _end(self) -> CallEnd:
        return CallEnd({"input": self.random.randint(0, INPUT), "output": self.random.randint(0, OUTPUT)})


def sums(tenant: Tenant) -> tuple[Decimal, Decimal, Decimal]:
    """Return what counts against the budget, the reserved part of it, and what should count according to the calls."""
    with psycopg.connect(tenant.database_url) as connection:
        row = connection.execute(SUMS).fetchone()
    assert row is not None
    return row


def test_sixteen_workers_never_exceed_the_budget_and_leave_no_reservation(tenant: Tenant, make_run: MakeRun) -> None:
    workers = [Worker(tenant, make_run(tenant), seed) for seed in range(WORKERS)]
    tenant_budget_set(tenant_id=tenant.pk, budgets={"monthly_budget_usd": BUDGET})
    observer = Observer(tenant.database_url, threading.Event())
    with ThreadPoolExecutor(WORKERS + 1) as pool:
        watching = pool.submit(observer)
        working = [pool.submit(worker, CALLS // WORKERS) for worker in workers]
        try:
            for future in working:
                future.result()
        finally:
            observer.stopped.set()
        watching.result()
    counted, reserved, by_calls = sums(tenant)
    assert reserved == 0 and counted == by_calls
    # Less than a call is left.
    assert BUDGET - BOUND < counted <= BUDGET
    with tenant_context(tenant) as alias:
        calls = Call.objects.using(alias)
        assert calls.count() == sum(worker.begun for worker in workers)
        assert {*calls.values_list("status", flat=True)} == {CallStatus.SETTLED, CallStatus.UNKNOWN}
    assert all(worker.refused for worker in workers) and observer.looks


def call_and_die(said: Connection, point: int, tenant_id: str, run_id: UUID) -> None:
    """Make a call, and die just before the given point; report if it is never reached."""
    from tenants.routing.backend.base import DatabaseWrapper

    passed = count(1)

    def reach() -> None:
        if next(passed) == point:
            os.kill(os.getpid(), signal.SIGKILL)

    def statement(execute: Callable[..., Any], *arguments: Any) -> Any:
        reach()
        return execute(*arguments)

    def watch(connection: Any, **_signal: Any) -> None:
        if connection.alias.startswith(TENANT_PREFIX):
            connection.execute_wrappers.append(statement)

    backend: Any = DatabaseWrapper
    commit = backend._commit

    def committed(self: Any) -> Any:
        reach()
        return commit(self)

    backend._commit = committed
    connection_created.connect(watch)
    with tenant_context(tenant_id) as alias:
        held = step_claim(alias=alias, tenant_id=tenant_id, run_id=run_id, step=FIRST, owner="worker@test")
        assert held is not None
        call_id = call_begin(alias=alias, claim=held, max_input_tokens=INPUT, max_output_tokens=OUTPUT)
        assert call_id is not None
    with tenant_context(tenant_id) as alias:
        call = EndedCall(call_id, CallEnd({"input": INPUT, "output": OUTPUT}))
        step_return(alias=alias, claim=held, reason="worker stopped", call=call)
    said.send("not reached")


def test_a_worker_killed_at_any_point_neither_loses_nor_keeps_a_reservation(tenant: Tenant) -> None:
    tenant_budget_set(tenant_id=tenant.pk, budgets={"monthly_budget_usd": Decimal(1000)})
    found = set()
    for point in count(1):
        run = run_create(tenant_id=tenant.pk, config={"keyword": "coffee", "language": "en", "steps": [FIRST]})
        before, reserved, _by_calls = sums(tenant)
        assert reserved == 0
        with forked(call_and_die, point, tenant.pk, run.pk) as (process, said):
            process.join(60)
            is_killed = process.exitcode == -signal.SIGKILL
            assert is_killed or said.recv() == "not reached"
        counted, reserved, by_calls = sums(tenant)
        assert counted == by_calls and counted - before in (0, BOUND)
        found.add((counted - before, reserved))
        take_over(tenant, run)
        again, reserved, by_calls = sums(tenant)
        assert reserved == 0 and again == counted == by_calls
        if not is_killed:
            break
    # Nothing, a reservation, and a settled call.
    assert found == {(0, 0), (BOUND, BOUND), (BOUND, 0)}


def take_over(tenant: Tenant, run: Run) -> None:
    """If the step is still claimed, let another worker take it over; check that the run has no open call."""
    if steps_of(tenant, run)[FIRST].lease_expires_at is not None:
        change_step(tenant, run, FIRST, lease_expires_at=timezone.now() - timedelta(seconds=1))
        assert claim(tenant, run) is not None
    with tenant_context(tenant) as alias:
        assert not Call.objects.using(alias).filter(run_id=run.pk, status=CallStatus.OPEN).exists()
