"""Resuming: the run continues where it was, and a step that is waiting for a retry keeps waiting."""

from datetime import timedelta

from django.utils import timezone

from runs.models import PauseCause, Run, RunStatus
from runs.services.pause import run_pause
from runs.services.resume import run_resume
from runs.steps.sweep import tenant_sweep
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.runs.driving import finish, messages_sent, reload
from tests.runs.fake_llm import FakeLLM
from tests.runs.services.states import FIRST, InState, MakeRun, call_in_progress, change_step, in_state, steps_of

__all__ = ["in_state"]


def test_a_resumed_run_is_completed(tenant: Tenant, in_state: InState) -> None:
    run = in_state("paused")
    run_resume(tenant_id=tenant.pk, run_id=run.pk)
    assert finish(tenant, run) == ["completed"] * 3
    assert reload(tenant, run).status == RunStatus.COMPLETED


def test_a_step_that_waits_for_a_retry_is_not_due_earlier(tenant: Tenant, in_state: InState) -> None:
    run = in_state("pending")
    due = timezone.now() + timedelta(hours=1)
    change_step(tenant, run, FIRST, not_before=due, retry_count=3)
    run_pause(tenant_id=tenant.pk, run_id=run.pk)
    run_resume(tenant_id=tenant.pk, run_id=run.pk)
    step = steps_of(tenant, run)[FIRST]
    assert (step.not_before, step.retry_count) == (due, 3)
    assert finish(tenant, run) == ["not claimed"]


def test_a_step_that_is_still_running_is_left_to_its_worker(
    tenant: Tenant, make_run: MakeRun, fake_llm: FakeLLM
) -> None:
    run = make_run(tenant)
    with call_in_progress(tenant, run, fake_llm) as outcomes:
        run_pause(tenant_id=tenant.pk, run_id=run.pk)
        assert run_resume(tenant_id=tenant.pk, run_id=run.pk).status == RunStatus.RUNNING
        assert finish(tenant, run) == ["not claimed"]
    assert outcomes == ["completed"]
    assert finish(tenant, run) == ["completed"] * 3


def test_if_the_wake_up_is_lost_the_sweep_sends_another(tenant: Tenant, in_state: InState) -> None:
    run = in_state("paused")
    # As after many wake-ups that were not answered.
    change_step(tenant, run, "outline", wake_count=6, wake_after=timezone.now() + timedelta(hours=1))
    run_resume(tenant_id=tenant.pk, run_id=run.pk)
    messages_sent()
    step = steps_of(tenant, run)["outline"]
    assert (step.wake_after, step.wake_count) == (None, 0)
    change_step(tenant, run, "outline", wake_after=timezone.now())
    with tenant_context(tenant) as alias:
        assert tenant_sweep(alias=alias, tenant_id=tenant.pk) == 1


def test_a_run_on_hold_whose_first_step_needs_a_review_waits_for_that(tenant: Tenant, in_state: InState) -> None:
    run = in_state("held")
    change_step(tenant, run, FIRST, review=True)
    resumed = run_resume(tenant_id=tenant.pk, run_id=run.pk)
    assert (resumed.status, resumed.pause_cause) == (RunStatus.PAUSED, "review")
    assert str(run.pk) not in [message[1] for message in messages_sent()]


def test_a_run_that_a_budget_paused_no_longer_shows_the_budgets_error(tenant: Tenant, in_state: InState) -> None:
    run = in_state("paused")
    with tenant_context(tenant) as alias:
        Run.objects.using(alias).filter(pk=run.pk).update(pause_cause=PauseCause.BUDGET)
    change_step(tenant, run, "outline", error_message="The run could exceed its budget.")
    run_resume(tenant_id=tenant.pk, run_id=run.pk)
    assert steps_of(tenant, run)["outline"].error_message is None


def test_a_run_that_a_person_paused_keeps_its_steps_error(tenant: Tenant, in_state: InState) -> None:
    run = in_state("paused")
    change_step(tenant, run, "outline", error_message="The provider is overloaded.")
    run_resume(tenant_id=tenant.pk, run_id=run.pk)
    assert steps_of(tenant, run)["outline"].error_message == "The provider is overloaded."
