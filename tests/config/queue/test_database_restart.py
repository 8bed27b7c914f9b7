"""A worker whose PostgreSQL server restarts in the middle of its calls."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest
from django.db import connections

from config import stack
from config.stack.process import alive, wait_until
from config.stack.state import load_state
from runs.messages.sending import send_wake_up
from runs.models import Call, CallStatus, Run, RunStatus
from runs.steps.sweep import runs_sweep
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tenants.routing.pool import pool
from tests.runs.conftest import fake_llm as fake_llm
from tests.runs.conftest import make_run as make_run
from tests.runs.driving import reload
from tests.runs.fake_llm import FakeLLM
from tests.runs.services.states import FIRST
from tests.runs.turns.gates import Gates
from tests.runs.worker import PATIENCE_S, Watched, kill

MakeRun = Callable[..., Run]


@pytest.fixture
def gates(fake_llm: FakeLLM) -> Iterator[Gates]:
    made = Gates(fake_llm)
    yield made
    made.open()


@pytest.fixture
def worker(gates: Gates, tmp_path: Path) -> Iterator[Watched]:
    """A worker whose lease is so short that it must be renewed during the outage, too."""
    started = Watched(tmp_path, RUN_LEASE_S="9", WORKER_CONTROL_CONNECTION_WAIT_S="2")
    yield started
    kill(started.process)


@contextmanager
def postgres_down(home: stack.Home, *tenants: Tenant) -> Iterator[None]:
    """Stop the session's PostgreSQL, and start it again at the end of the block, on the same port."""
    record = load_state(home).services["postgres"].process
    assert record is not None
    connections["default"].close()
    for tenant in tenants:
        pool.discard(tenant.alias)
    # Fast shutdown: it ends all sessions.
    psutil.Process(record.pid).send_signal(signal.SIGINT)
    assert wait_until(lambda: alive(record) is None, PATIENCE_S)
    try:
        yield
    finally:
        stack.start(home, [])


def completed(tenant: Tenant, *runs: Run) -> bool:
    """Sweep as beat does; return whether all runs are completed."""
    runs_sweep()
    return {reload(tenant, run).status for run in runs} == {RunStatus.COMPLETED}


@pytest.mark.chaos
def test_a_worker_outlasts_a_restart_without_a_traceback(
    tenant: Tenant,
    make_run: MakeRun,
    gates: Gates,
    worker: Watched,
    stack_home: stack.Home,
) -> None:
    runs = [make_run(tenant, steps=(FIRST,)) for _ in range(4)]
    assert wait_until(lambda: gates.held == len(runs), PATIENCE_S), worker.log
    waiting = make_run(tenant, steps=(FIRST,))
    assert wait_until(lambda: gates.held == len(runs) + 1, PATIENCE_S), worker.log
    with postgres_down(stack_home, tenant):
        # The replies arrive while they cannot be stored, and a wake-up while the step cannot be claimed.
        gates.release_one()
        gates.release_one()
        send_wake_up(tenant.pk, waiting.pk, FIRST)
        assert wait_until(lambda: "step skipped, its tenant cannot be used" in worker.log, PATIENCE_S), worker.log
        assert wait_until(lambda: "leases not renewed" in worker.log, PATIENCE_S), worker.log
        assert worker.process.poll() is None
    gates.open()
    assert wait_until(partial(completed, tenant, *runs, waiting), PATIENCE_S), worker.log
    with tenant_context(tenant) as alias:
        calls = list(Call.objects.using(alias).values_list("status", "attempt"))
    # The model was asked once for each run: no reply was lost.
    assert calls == [(CallStatus.SETTLED, 1)] * 5
    assert "Traceback" not in worker.log
    errors = [line for line in worker.lines if " ERROR " in line or " CRITICAL " in line]
    assert errors == []
