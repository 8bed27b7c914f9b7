"""A worker is stopped during twenty calls and replaced: no step spends an attempt.

Only the calls that outlast the wait are made again.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from config.stack.paths import CHECKOUT
from config.stack.process import wait_until
from runs.models import Call, Run, Step, StepStatus
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.runs.fake_llm import Answer, FakeLLM
from tests.runs.worker import PATIENCE_S, kill
from tests.support import preloaded

MakeRun = Callable[..., Run]
CALLS, ANSWERED = 20, 12
STEP = "keyword_analysis"

pytestmark = pytest.mark.chaos


class Worker:
    """A worker with room for all calls. When stopped, it waits for them until a second signal ends the wait."""

    def __init__(self, folder: Path, name: str) -> None:
        self._log, ready = folder / f"{name}.log", folder / f"{name}.ready"
        command = [sys.executable, "-m", "celery", "--quiet", "-A", "config.celery", "worker", "--loglevel", "INFO"]
        environment = {"WORKER_STOP_WAIT_S": str(PATIENCE_S), "SEO_GEN_READY_FILE": str(ready)}
        with self._log.open("wb") as log:
            self.process = preloaded.Popen(
                [*command, "--concurrency", str(CALLS), "--hostname", f"{name}@restart"],
                cwd=CHECKOUT,
                env={**os.environ, **environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        assert wait_until(ready.exists, PATIENCE_S), self.log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def begin_to_stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert wait_until(lambda: "Warm shutdown" in self.log, PATIENCE_S), self.log

    def has_ended(self) -> bool:
        return wait_until(lambda: self.process.poll() is not None, PATIENCE_S)


@contextmanager
def worker(folder: Path, name: str) -> Iterator[Worker]:
    started = Worker(folder, name)
    try:
        yield started
    finally:
        kill(started.process)


class Calls:
    """Twenty runs of one step each; a call is answered once its gate is set."""

    def __init__(self, tenant: Tenant, make_run: MakeRun, fake_llm: FakeLLM) -> None:
        self._tenant = tenant
        self._fake_llm = fake_llm
        self.gates = [threading.Event() for _number in range(CALLS)]
        fake_llm.answers.extend(Answer(gate=gate) for gate in self.gates)
        for _number in range(CALLS):
            make_run(tenant, steps=(STEP,))

    def answer(self, number: int) -> None:
        for gate in self.gates[:number]:
            gate.set()

    @property
    def requests(self) -> int:
        return len(self._fake_llm.prompts)

    def steps(self, status: StepStatus) -> int:
        """Return the number of steps with this status; fail if any step has a failed or lost attempt, or an error."""
        with tenant_context(self._tenant) as alias:
            steps = list(Step.objects.using(alias).all())
        assert {(step.retry_count, step.lost_count, step.error_message) for step in steps} == {(0, 0, None)}
        return sum(step.status == status for step in steps)

    def statuses(self) -> list[str]:
        with tenant_context(self._tenant) as alias:
            return sorted(Call.objects.using(alias).values_list("status", flat=True))


@pytest.fixture
def calls(tenant: Tenant, make_run: MakeRun, fake_llm: FakeLLM) -> Iterator[Calls]:
    made = Calls(tenant, make_run, fake_llm)
    yield made
    made.answer(CALLS)


def test_only_calls_that_outlast_the_wait_are_made_again(calls: Calls, tmp_path: Path) -> None:
    """The wait ends with a second signal, as in `stack stop --wait`."""
    left = CALLS - ANSWERED
    with worker(tmp_path, "first") as first:
        assert wait_until(lambda: calls.requests == CALLS, PATIENCE_S), first.log
        first.begin_to_stop()
        calls.answer(ANSWERED)
        assert wait_until(lambda: calls.steps(StepStatus.COMPLETED) == ANSWERED, PATIENCE_S), first.log
        first.process.send_signal(signal.SIGQUIT)
        assert first.has_ended(), first.log
    assert calls.steps(StepStatus.PENDING) == left
    with worker(tmp_path, "second") as second:
        assert wait_until(lambda: calls.steps(StepStatus.COMPLETED) == CALLS, PATIENCE_S), second.log
    assert calls.requests == CALLS + left
    # No one knows whether the provider bills an interrupted call.
    assert calls.statuses() == ["settled"] * CALLS + ["unknown"] * left
