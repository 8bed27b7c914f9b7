"""A reply that is paid for is kept for a time while its tenant or its storage cannot be used."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django import Settings

from config.stack.process import wait_until
from runs.models import Call, CallStatus, Run, RunCost, Step, StepStatus
from runs.output import decode
from runs.steps import execute as executing
from runs.steps import finish
from runs.steps.store import StoredOutput, store_output
from runs.storage import output_path, read, read_unverified
from runs.types import Claim, StepOutcome, StepOutput
from tenants.errors import TenantNotActive
from tenants.lifecycle.suspend import tenant_resume, tenant_suspend
from tenants.models import Tenant, TenantStatus
from tenants.routing.context import tenant_context
from tests.runs.driving import execute
from tests.runs.fake_llm import INPUT_TOKENS, OUTPUT_TOKENS, Answer, FakeLLM
from tests.runs.services.states import FIRST, call_in_progress, change_step, steps_of

MakeRun = Callable[..., Run]
USED = {"input": INPUT_TOKENS, "output": OUTPUT_TOKENS}


def calls_of(tenant: Tenant, run: Run) -> list[Call]:
    with tenant_context(tenant) as alias:
        return list(Call.objects.using(alias).filter(run_id=run.pk).order_by("id"))


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[TenantNotActive]:
    """Catch the errors of steps whose tenant is not active, as a worker's task does, and return the list of them.

    Such a step has the outcome "lost".
    """
    errors: list[TenantNotActive] = []
    step_execute = executing.step_execute

    def execute_as_a_task(**arguments: object) -> StepOutcome:
        try:
            return step_execute(**arguments)  # type: ignore[arg-type]
        except TenantNotActive as error:
            errors.append(error)
            return "lost"

    monkeypatch.setattr("tests.runs.driving.step_execute", execute_as_a_task)
    return errors


def test_a_reply_to_a_suspended_tenant_is_kept_as_a_file_and_adopted_once_it_is_resumed(
    tenant: Tenant, run: Run, fake_llm: FakeLLM, refused: list[TenantNotActive]
) -> None:
    with call_in_progress(tenant, run, fake_llm):
        tenant_suspend(tenant_id=tenant.pk)
    assert [error.status for error in refused] == ["suspended"]
    assert status_while_suspended(tenant, run) == StepStatus.RUNNING
    tenant_resume(tenant_id=tenant.pk)
    with tenant_context(tenant):
        content = read_unverified(output_path(run.pk, FIRST))
    kept = decode(content) if content else None
    assert kept is not None and kept.text == f"# Asked for {FIRST}"
    [call] = calls_of(tenant, run)
    assert kept.call_id == call.pk
    # The lease of the worker that had to leave the step ends.
    change_step(tenant, run, FIRST, lease_expires_at=timezone.now() - timedelta(seconds=1))
    assert execute(tenant, run, FIRST, owner="other") == "completed"
    assert len(fake_llm.prompts) == 1
    [call], step = calls_of(tenant, run), steps_of(tenant, run)[FIRST]
    assert (call.status, call.token_usage) == (CallStatus.SETTLED, USED)
    assert call.request_id == fake_llm.ledger[0].request_id
    assert (step.status, step.token_usage, step.retry_count) == (StepStatus.COMPLETED, USED, 0)
    assert step.metrics is not None and step.metrics["adopted"] is True
    with tenant_context(tenant) as alias:
        assert read(str(step.output_path), step.output_digest) == content
        cost = RunCost.objects.using(alias).get(run_id=run.pk)
    assert (cost.total_input_tokens, cost.unknown_calls) == (INPUT_TOKENS, 0)


def status_while_suspended(tenant: Tenant, run: Run) -> str:
    """Return the status of the first step of a suspended tenant's run."""
    with tenant_context(tenant.pk, statuses=(TenantStatus.SUSPENDED,)) as alias:
        return Step.objects.using(alias).get(run_id=run.pk, step=FIRST).status


@pytest.fixture
def broken_storage(settings: Settings) -> Callable[[bool], None]:
    working = settings.STORAGES
    nowhere = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": "/dev/full"}}

    def change(is_broken: bool) -> None:
        settings.STORAGES = {**working, "artifacts": nowhere} if is_broken else working

    return change


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> list[StepOutput]:
    """Return a list that collects the outputs that a worker tries to store, whether or not storing succeeds."""
    tries: list[StepOutput] = []

    def store_and_note(claim: Claim, output: StepOutput) -> StoredOutput:
        tries.append(output)
        return store_output(claim, output)

    monkeypatch.setattr(finish, "store_output", store_and_note)
    return tries


def test_a_reply_waits_for_the_storage_and_is_stored_without_a_second_call(
    tenant: Tenant,
    run: Run,
    fake_llm: FakeLLM,
    broken_storage: Callable[[bool], None],
    stored: list[StepOutput],
) -> None:
    gate = threading.Event()
    with call_in_progress(tenant, run, fake_llm, gate=gate) as outcomes:
        broken_storage(True)
        gate.set()
        assert wait_until(lambda: len(stored) >= 2, 30)
        assert (outcomes, steps_of(tenant, run)[FIRST].status) == ([], StepStatus.RUNNING)
        broken_storage(False)
    assert outcomes == ["completed"]
    assert len(stored) >= 3
    [call], step = calls_of(tenant, run), steps_of(tenant, run)[FIRST]
    assert (call.status, step.token_usage, step.retry_count) == (CallStatus.SETTLED, USED, 0)
    assert (step.summary, len(fake_llm.prompts)) == (f"Asked for {FIRST}", 1)


def test_a_reply_that_cannot_be_stored_in_time_costs_an_attempt_but_its_cost_is_kept(
    tenant: Tenant,
    run: Run,
    fake_llm: FakeLLM,
    broken_storage: Callable[[bool], None],
    settings: Settings,
) -> None:
    settings.RUN_REPLY_KEPT_S = 0
    with call_in_progress(tenant, run, fake_llm) as outcomes:
        broken_storage(True)
    assert outcomes == ["retried"]
    [call], step = calls_of(tenant, run), steps_of(tenant, run)[FIRST]
    assert (call.status, step.token_usage, step.retry_count) == (CallStatus.SETTLED, USED, 1)
    broken_storage(False)
    fake_llm.answers.append(Answer())
    change_step(tenant, run, FIRST, not_before=None)
    assert execute(tenant, run, FIRST) == "completed"
    assert steps_of(tenant, run)[FIRST].token_usage == {"input": 2 * INPUT_TOKENS, "output": 2 * OUTPUT_TOKENS}
