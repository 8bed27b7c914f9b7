"""Real Celery workers: a run from the command to the article, and workers that are killed during a run."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from pytest_django import Settings

from audit.models import AuditLog
from config.stack.paths import CHECKOUT
from config.stack.process import wait_until
from runs.messages.sending import WORKER_ANSWERS_S, require_worker
from runs.models import WORKING, Artifact, Run, RunCost, RunStatus, Step, StepStatus
from runs.steps.sweep import runs_sweep
from runs.storage import read
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.runs.driving import STEPS, reload
from tests.runs.fake_llm import INPUT_TOKENS, OUTPUT_TOKENS, Answer, FakeLLM
from tests.support import preloaded

MakeRun = Callable[..., Run]
LEASE_S = 2.0
PATIENCE_S = 120.0


class Workers:
    """Celery worker processes of this checkout, on the session's servers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        number = len(self._processes)
        ready = self._folder / f"worker-{number}.ready"
        environment = {**os.environ, "RUN_LEASE_S": str(LEASE_S), "SEO_GEN_READY_FILE": str(ready)}
        with (self._folder / f"worker-{number}.log").open("wb") as log:
            process = preloaded.Popen(
                [
                    *(sys.executable, "-m", "celery", "-A", "config.celery", "worker"),
                    *("--concurrency", "2", "--hostname", f"test-{number}@%h", "--loglevel", "INFO"),
                ],
                cwd=CHECKOUT,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)
        assert wait_until(ready.exists, PATIENCE_S), self.log(number)
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill the worker and its pool processes together, as `kill -9` does; wait until the worker has ended."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)

    def log(self, number: int) -> str:
        return (self._folder / f"worker-{number}.log").read_text()

    def stop(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                self.kill(process)


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    started = Workers(tmp_path)
    yield started
    started.stop()


def over(tenant: Tenant, run: Run) -> bool:
    return reload(tenant, run).status not in WORKING


def at_work(fake_llm: FakeLLM, asked_before: int, tenant: Tenant, run: Run) -> bool:
    """Sweep once; return whether the model was called more than `asked_before` times or the run is over."""
    runs_sweep()
    return len(fake_llm.prompts) > asked_before or over(tenant, run)


def ended(tenant: Tenant, run: Run, *, sweeping: bool = False) -> bool:
    """Return whether the run ends within PATIENCE_S; if `sweeping`, sweep meanwhile, as beat does."""

    def swept_and_over() -> bool:
        if sweeping:
            runs_sweep()
        return over(tenant, run)

    return wait_until(swept_and_over, PATIENCE_S)


def test_a_worker_makes_the_article_and_the_command_waits_for_it(
    tenant: Tenant, fake_llm: FakeLLM, workers: Workers
) -> None:
    workers.start()
    models = {step: {"provider": "openai", "model_class": "standard"} for step in STEPS}
    config = {"keyword": "tea", "language": "en", "models": models}
    out = StringIO()
    call_command("run_create", "--tenant-id", tenant.pk, "--config", json.dumps(config), "--wait", "--json", stdout=out)
    made = json.loads(out.getvalue())
    assert made["status"] == "completed"
    with tenant_context(tenant) as alias:
        article = made["artifacts"][-1]
        assert read(article["file_path"], article["digest"]).startswith(b"# Answer 4")
        users = set(AuditLog.objects.using(alias).filter(action="step.complete").values_list("user_id", flat=True))
    assert all(user.startswith("worker:test-0@") for user in users)
    assert "tea" not in workers.log(0)


def test_a_worker_that_is_slow_to_answer_is_there_all_the_same(workers: Workers) -> None:
    """On a busy machine, a worker may answer only after the first timeout."""
    process = workers.start()
    require_worker()
    os.killpg(process.pid, signal.SIGSTOP)
    later = threading.Timer(WORKER_ANSWERS_S[0] + 1, os.killpg, (process.pid, signal.SIGCONT))
    later.start()
    require_worker()
    later.join()


def test_a_failed_run_exits_with_the_providers_message(tenant: Tenant, fake_llm: FakeLLM, workers: Workers) -> None:
    workers.start()
    fake_llm.answers.append(Answer(status=400, text="This model does not like you"))
    config = {"keyword": "tea", "models": {"keyword_analysis": {"provider": "openai"}}}
    created = preloaded.run(
        [
            *(sys.executable, "manage.py", "run_create", "--tenant-id", tenant.pk),
            *("--config", json.dumps(config), "--wait", "--json"),
        ],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert created.returncode == 1
    assert json.loads(created.stdout)["status"] == "failed"
    assert f"of tenant {tenant.pk} failed in step keyword_analysis: " in created.stderr
    assert "This model does not like you" in created.stderr
    assert len(created.stderr.strip().splitlines()) == 1


@pytest.mark.chaos
@pytest.mark.parametrize("killed_step", [0, 2, 3])
def test_a_worker_killed_in_the_middle_of_a_step_costs_one_attempt(
    tenant: Tenant, make_run: MakeRun, fake_llm: FakeLLM, workers: Workers, killed_step: int
) -> None:
    gate = threading.Event()
    fake_llm.answers.extend([Answer(text=f"Text {number}") for number in range(killed_step)])
    fake_llm.answers.append(Answer(text="never read", gate=gate))
    first = workers.start()
    run = make_run(tenant)
    assert wait_until(lambda: len(fake_llm.prompts) == killed_step + 1, PATIENCE_S), workers.log(0)
    workers.kill(first)
    gate.set()
    workers.start()
    assert ended(tenant, run, sweeping=True), workers.log(1)
    with tenant_context(tenant) as alias:
        assert Run.objects.using(alias).get(pk=run.pk).status == RunStatus.COMPLETED
        steps = list(Step.objects.using(alias).filter(run=run).order_by("position"))
        assert [step.status for step in steps] == [StepStatus.COMPLETED] * 4
        assert [(step.retry_count, step.lost_count) for step in steps] == [
            (0, int(number == killed_step)) for number in range(4)
        ]
        assert [step.token_usage for step in steps] == [{"input": INPUT_TOKENS, "output": OUTPUT_TOKENS}] * 4
        assert list(Artifact.objects.using(alias).filter(run=run).order_by("id").values_list("step", flat=True)) == [
            *STEPS
        ]
        assert RunCost.objects.using(alias).get(run=run).total_input_tokens == 4 * INPUT_TOKENS
        for step in steps:
            read(str(step.output_path), step.output_digest)
    # Five requests for four steps: the finished ones were not run again.
    assert len(fake_llm.prompts) == 5


@pytest.mark.chaos
def test_workers_killed_at_random_moments_leave_one_result_per_step(
    tenant: Tenant, make_run: MakeRun, fake_llm: FakeLLM, workers: Workers, settings: Settings
) -> None:
    """The kill may hit a claim, a call, the writing of files, or a commit."""
    settings.RUN_LEASE_S = LEASE_S
    chance = random.Random(os.environ.get("CHAOS_SEED", "7"))
    kills = 3
    process = workers.start()
    run = make_run(tenant)
    for _kill in range(kills):
        assert wait_until(partial(at_work, fake_llm, len(fake_llm.prompts), tenant, run), PATIENCE_S)
        time.sleep(chance.uniform(0, 0.15))
        workers.kill(process)
        process = workers.start()
        runs_sweep()
    assert ended(tenant, run, sweeping=True)
    with tenant_context(tenant) as alias:
        assert Run.objects.using(alias).get(pk=run.pk).status == RunStatus.COMPLETED
        steps = list(Step.objects.using(alias).filter(run=run).order_by("position"))
        assert [step.token_usage for step in steps] == [{"input": INPUT_TOKENS, "output": OUTPUT_TOKENS}] * 4
        assert sum(step.retry_count for step in steps) <= kills
        assert Artifact.objects.using(alias).filter(run=run).count() == 4
        for artifact in Artifact.objects.using(alias).filter(run=run):
            read(artifact.file_path, artifact.digest)
        for step in steps:
            read(str(step.output_path), step.output_digest)
    assert 4 <= len(fake_llm.prompts) <= 4 + kills


@pytest.mark.chaos
def test_a_worker_that_is_stopped_politely_finishes_its_step(
    tenant: Tenant, make_run: MakeRun, fake_llm: FakeLLM, workers: Workers
) -> None:
    gate = threading.Event()
    fake_llm.answers.append(Answer(gate=gate))
    process = workers.start()
    run = make_run(tenant)
    assert fake_llm.asked.wait(PATIENCE_S), workers.log(0)
    process.send_signal(signal.SIGTERM)
    assert wait_until(lambda: "Warm shutdown" in workers.log(0), PATIENCE_S)
    gate.set()
    process.wait(60)
    with tenant_context(tenant) as alias:
        step = Step.objects.using(alias).get(run=run, step="keyword_analysis")
    assert (step.status, step.retry_count) == (StepStatus.COMPLETED, 0)


@pytest.mark.chaos
def test_runs_of_many_tenants_on_two_workers_stay_apart(
    make_tenant: Callable[..., Tenant], make_run: MakeRun, fake_llm: FakeLLM, workers: Workers
) -> None:
    tenants = [make_tenant() for _ in range(3)]
    workers.start()
    workers.start()
    runs = [(tenant, make_run(tenant, keyword=f"only-{tenant.pk}")) for tenant in tenants for _ in range(3)]
    assert all(ended(tenant, run) for tenant, run in runs)
    for tenant in tenants:
        with tenant_context(tenant) as alias:
            assert Run.objects.using(alias).filter(status=RunStatus.COMPLETED).count() == 3
            assert Artifact.objects.using(alias).count() == 12
            keywords = {run.config["keyword"] for run in Run.objects.using(alias).all() if run.config}
        assert keywords == {f"only-{tenant.pk}"}
    assert len(fake_llm.prompts) == 36
