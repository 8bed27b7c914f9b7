"""A real worker that is stopped in the middle of its calls, and the connections that it holds meanwhile."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from django.conf import settings

from config.stack.process import wait_until
from runs.models import Call, CallStatus, Run, RunStatus, Step, StepStatus
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.runs.conftest import fake_llm as fake_llm
from tests.runs.conftest import make_run as make_run
from tests.runs.driving import reload
from tests.runs.fake_llm import INPUT_TOKENS, OUTPUT_TOKENS, FakeLLM
from tests.runs.services.states import FIRST, steps_of
from tests.runs.turns.gates import Gates
from tests.runs.worker import PATIENCE_S, Watched, kill
from tests.support.superuser import superuser_url

MakeRun = Callable[..., Run]
StartWorker = Callable[..., Watched]
CALLS = 40
# In addition to the pools: the heartbeat's renewals, the presence, the worker's main thread.
FEW = 4


@pytest.fixture
def gates(fake_llm: FakeLLM) -> Iterator[Gates]:
    made = Gates(fake_llm)
    yield made
    made.open()


@pytest.fixture
def start_worker(tmp_path: Path, gates: Gates) -> Iterator[StartWorker]:
    """Yield a function that starts a worker; its workers are killed after the test.

    They start after the provider, because they must be allowed to call its host.
    """
    started: list[Watched] = []

    def start(**environment: str) -> Watched:
        folder = tmp_path / f"worker-{len(started)}"
        folder.mkdir()
        started.append(Watched(folder, **environment))
        return started[-1]

    yield start
    for worker in started:
        kill(worker.process)


def sessions_of(worker: Watched, tenant: Tenant) -> int:
    """Return the number of sessions that the worker has on the PostgreSQL server."""
    sockets = psutil.Process(worker.process.pid).net_connections("tcp")
    ports = [socket.laddr.port for socket in sockets if socket.raddr]
    assert tenant.server is not None
    with psycopg.connect(superuser_url(tenant.server.admin_url)) as server:
        found = server.execute("SELECT count(*) FROM pg_stat_activity WHERE client_port = ANY(%s)", [ports]).fetchone()
    assert found is not None
    return int(found[0])


def calls_of(tenant: Tenant) -> list[Call]:
    with tenant_context(tenant) as alias:
        return list(Call.objects.using(alias).order_by("id"))


def assert_returned(tenant: Tenant, runs: list[Run]) -> None:
    """Check that each run's first step was returned for another worker, without spending an attempt."""
    for run in runs:
        step = steps_of(tenant, run)[FIRST]
        assert (step.status, step.retry_count, step.lost_count) == (StepStatus.PENDING, 0, 0)
        assert (step.lease_owner, step.lease_expires_at, step.error_message) == (None, None, None)
        assert reload(tenant, run).status == RunStatus.RUNNING


def test_a_worker_holds_few_connections_and_completes_its_calls_before_it_stops(
    make_tenant: Callable[..., Tenant], make_run: MakeRun, gates: Gates, start_worker: StartWorker
) -> None:
    worker = start_worker(WORKER_STOP_WAIT_S="600")
    tenants = [make_tenant() for _ in range(2)]
    runs = [(tenant, make_run(tenant, steps=(FIRST,))) for _ in range(CALLS // 2) for tenant in tenants]
    assert wait_until(lambda: gates.held == CALLS, PATIENCE_S), worker.log
    sessions = sessions_of(worker, tenants[0])
    assert 0 < sessions <= settings.WORKER_CONTROL_CONNECTIONS_MAX + settings.TENANT_CONNECTIONS_MAX + FEW
    # The heartbeat is one thread, and so is each call.
    assert psutil.Process(worker.process.pid).num_threads() < CALLS + 30
    worker.process.send_signal(signal.SIGTERM)
    assert wait_until(lambda: "Warm shutdown" in worker.log, PATIENCE_S)
    gates.open()
    assert worker.process.wait(PATIENCE_S) == 0
    assert {reload(tenant, run).status for tenant, run in runs} == {RunStatus.COMPLETED}
    calls = [call for tenant in tenants for call in calls_of(tenant)]
    used = {"input": INPUT_TOKENS, "output": OUTPUT_TOKENS}
    assert [(call.status, call.token_usage) for call in calls] == [(CallStatus.SETTLED, used)] * CALLS
    assert "Traceback" not in worker.log


def test_calls_that_outlast_the_wait_are_returned_without_an_attempt(
    tenant: Tenant, make_run: MakeRun, gates: Gates, start_worker: StartWorker
) -> None:
    """Stop one worker by SIGTERM with a short wait, and the next one by SIGQUIT while it is still waiting."""
    first = start_worker(WORKER_STOP_WAIT_S="0.5")
    runs = [make_run(tenant, steps=(FIRST,)) for _ in range(3)]
    assert wait_until(lambda: gates.held == len(runs), PATIENCE_S), first.log
    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait(PATIENCE_S) == 0
    assert_returned(tenant, runs)
    calls = calls_of(tenant)
    assert [call.status for call in calls] == [CallStatus.UNKNOWN] * 3
    assert {call.error_code for call in calls} == {"llm_call_aborted"}
    gates.forget()
    # Their wake-ups are waiting for another worker.
    second = start_worker(WORKER_STOP_WAIT_S="600")
    assert wait_until(lambda: gates.held == len(runs), PATIENCE_S), second.log
    second.process.send_signal(signal.SIGTERM)
    assert wait_until(lambda: "Warm shutdown" in second.log, PATIENCE_S)
    assert second.process.poll() is None
    second.process.send_signal(signal.SIGQUIT)
    assert second.process.wait(PATIENCE_S) == 0
    assert_returned(tenant, runs)
    assert [call.status for call in calls_of(tenant)] == [CallStatus.UNKNOWN] * 6
    gates.open()
    start_worker()
    assert wait_until(lambda: {reload(tenant, run).status for run in runs} == {RunStatus.COMPLETED}, PATIENCE_S)
    with tenant_context(tenant) as alias:
        attempts = Call.objects.using(alias).values_list("attempt", flat=True)
        # No attempt was spent.
        assert set(attempts) == {1} and attempts.count() == 9
        assert {step.lost_count for step in Step.objects.using(alias)} == {0}
    assert "Traceback" not in first.log + second.log


def test_sigquit_alone_returns_the_calls_at_once(
    tenant: Tenant, make_run: MakeRun, gates: Gates, start_worker: StartWorker
) -> None:
    worker = start_worker(WORKER_STOP_WAIT_S="600")
    run = make_run(tenant, steps=(FIRST,))
    assert wait_until(lambda: gates.held == 1, PATIENCE_S), worker.log
    worker.process.send_signal(signal.SIGQUIT)
    assert worker.process.wait(PATIENCE_S) == 0
    assert_returned(tenant, [run])
    assert [call.status for call in calls_of(tenant)] == [CallStatus.UNKNOWN]
