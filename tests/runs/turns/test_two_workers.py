"""Turns as two real workers take them: fairness, the provider's limit, its breaker, and an outage."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from config.stack.process import wait_until
from llm.models import LLMProvider
from llm.selectors import resolve_model
from runs.models import Run, RunStatus, Step
from runs.services.create import run_create
from runs.steps.sweep import runs_sweep
from runs.turns import store
from runs.turns.watch import why
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.runs.conftest import fake_provider
from tests.runs.driving import PROVIDER, STEPS, reload
from tests.runs.fake_llm import Answer, FakeLLM
from tests.runs.turns.driving import begin_anew
from tests.runs.turns.gates import Gates
from tests.runs.worker import PATIENCE_S, Watched, kill

FIRST = STEPS[0]
CALLS_AT_A_TIME = 4
BACKLOG = 60
# The breaker opens soon, and for a moment only.
BREAKER = {"LLM_BREAKER_FAULTS": "3", "LLM_BREAKER_OPEN_S": "0.5", "LLM_BREAKER_OPEN_MAX_S": "1"}


@pytest.fixture
def own_queue() -> Iterator[None]:
    """Use the session's queue, which the workers read, instead of the test's own.

    Delete all keys of turns before and after the test.
    """
    begin_anew()
    store.delete_keys("*")
    yield
    store.delete_keys("*")
    begin_anew()


@pytest.fixture(scope="module")
def provider(databases: None) -> Iterator[FakeLLM]:
    """Yield one fake provider, limited to CALLS_AT_A_TIME, for the whole module: the workers know its address."""
    with pytest.MonkeyPatch.context() as patch, fake_provider(patch) as fake:
        LLMProvider.objects.filter(pk=PROVIDER).update(max_concurrent_calls=CALLS_AT_A_TIME)
        yield fake
        LLMProvider.objects.filter(pk=PROVIDER).update(max_concurrent_calls=None)


@pytest.fixture(scope="module")
def workers(provider: FakeLLM, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Watched]]:
    store.delete_keys("*")
    started: list[Watched] = []
    try:
        for number in range(2):
            folder: Path = tmp_path_factory.mktemp("worker")
            started.append(Watched(folder, "--hostname", f"turns-{number}@here", **BREAKER))
        yield started
    finally:
        for worker in started:
            kill(worker.process)


@pytest.fixture
def gates(provider: FakeLLM) -> Iterator[Gates]:
    made = Gates(provider)
    yield made
    made.open()


def make(tenant: Tenant, *steps: str, keyword: str = "tea", model_class: str = "standard") -> Run:
    models = {step: {"provider": PROVIDER, "model_class": model_class} for step in steps}
    config = {"keyword": keyword, "language": "en", "steps": list(steps), "models": models}
    return run_create(tenant_id=tenant.pk, config=config)


def completed(tenant: Tenant) -> int:
    with tenant_context(tenant) as alias:
        return Run.objects.using(alias).filter(status=RunStatus.COMPLETED).count()


def all_completed(*tenants: Tenant) -> bool:
    """Sweep as beat does; return whether every run of the tenants is completed; fail if one has failed."""
    runs_sweep()
    statuses: set[str] = set()
    for tenant in tenants:
        with tenant_context(tenant) as alias:
            statuses |= set(Run.objects.using(alias).values_list("status", flat=True))
    assert RunStatus.FAILED not in statuses
    return statuses == {RunStatus.COMPLETED}


def test_a_run_ends_before_another_tenants_backlog_within_the_providers_limit(
    workers: list[Watched], own_queue: None, gates: Gates, tenant_pair: tuple[Tenant, Tenant]
) -> None:
    busy, other = tenant_pair
    for _number in range(BACKLOG):
        make(busy, FIRST)
    assert wait_until(lambda: gates.held == CALLS_AT_A_TIME, PATIENCE_S)
    run, released = make(other, *STEPS), 0
    while reload(other, run).status != RunStatus.COMPLETED:
        # As many calls as are allowed are in flight, so the next one to begin is chosen by turns alone.
        assert wait_until(lambda: gates.held == CALLS_AT_A_TIME or completed(other) == 1, PATIENCE_S)
        gates.release_one()
        released += 1
        assert released < BACKLOG / 2
    assert completed(busy) <= released
    gates.open()
    assert wait_until(partial(all_completed, busy, other), PATIENCE_S), workers[0].log
    assert gates.most == CALLS_AT_A_TIME
    with tenant_context(busy) as alias:
        owners = set(Step.objects.using(alias).values_list("lease_owner", flat=True))
    assert {str(owner).partition("@")[0] for owner in owners} == {"turns-0", "turns-1"}


def test_a_breaker_keeps_calls_from_one_model_only(
    workers: list[Watched], own_queue: None, provider: FakeLLM, gates: Gates, tenant: Tenant
) -> None:
    gates.open()
    models = {name: resolve_model(PROVIDER, name).model_name for name in ("standard", "pro")}
    provider.requests.clear()
    closing = Answer(status=429, text="Come back later.", headers={"Retry-After": "3600"})
    gates.at_once = lambda prompt: closing if "forbidden" in prompt else None
    refused = make(tenant, FIRST, keyword="forbidden tea")
    assert wait_until(lambda: reload_step(tenant, refused).retry_count == 1, PATIENCE_S), workers[0].log
    waiting = make(tenant, FIRST, keyword="green tea")
    served = make(tenant, *STEPS, keyword="black tea", model_class="pro")
    assert wait_until(lambda: reload(tenant, served).status == RunStatus.COMPLETED, PATIENCE_S), workers[0].log
    reason = why(tenant.pk, str(waiting.pk), FIRST)
    assert reason is not None and (reason.kind, reason.route) == ("breaker", f"{PROVIDER}/{models['standard']}")
    assert reload(tenant, waiting).status == RunStatus.PENDING
    asked = [request["model"] for request in provider.requests]
    assert (asked.count(models["standard"]), asked.count(models["pro"])) == (1, len(STEPS))


def test_an_outage_ends_with_all_runs_completed(
    workers: list[Watched], own_queue: None, gates: Gates, tenant_pair: tuple[Tenant, Tenant]
) -> None:
    """More calls fail in a row than the breaker allows."""
    failures = iter(range(8))
    gates.open()
    gates.at_once = lambda prompt: Answer(status=503) if next(failures, None) is not None else None
    for tenant in tenant_pair:
        for _number in range(2):
            make(tenant, *STEPS[:2])
    assert wait_until(partial(all_completed, *tenant_pair), PATIENCE_S), workers[0].log
    assert next(failures, None) is None
    for tenant in tenant_pair:
        with tenant_context(tenant) as alias:
            assert not Step.objects.using(alias).exclude(failing_since=None).exists()


def reload_step(tenant: Tenant, run: Run) -> Step:
    with tenant_context(tenant) as alias:
        return Step.objects.using(alias).get(run_id=run.pk, step=FIRST)
