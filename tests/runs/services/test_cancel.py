"""Cancelling: the run ends immediately, its worker can no longer store an output, and the cost of its calls is kept."""

from audit.log.actor import acting_as
from runs.models import Artifact, Call, CallStatus, RunCost, RunStatus, StepStatus
from runs.services.cancel import run_cancel
from runs.services.retry import run_retry
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.runs.driving import finish, reload
from tests.runs.fake_llm import INPUT_TOKENS, FakeLLM
from tests.runs.services.states import FIRST, MakeRun, call_in_progress, steps_of


def test_a_call_in_progress_is_abandoned_and_its_cost_kept(
    tenant: Tenant, make_run: MakeRun, fake_llm: FakeLLM
) -> None:
    run = make_run(tenant)
    with call_in_progress(tenant, run, fake_llm) as outcomes, acting_as("operator:ann"):
        run_cancel(tenant_id=tenant.pk, run_id=run.pk)
        step = steps_of(tenant, run)[FIRST]
        assert (step.status, step.error_message) == (StepStatus.FAILED, "Cancelled by operator:ann.")
    assert outcomes == ["lost"]
    step = steps_of(tenant, run)[FIRST]
    assert (step.status, step.error_message, step.output_path) == (
        *(StepStatus.FAILED, "Cancelled by operator:ann."),
        None,
    )
    with tenant_context(tenant) as alias:
        assert Call.objects.using(alias).get().status == CallStatus.SETTLED
        assert RunCost.objects.using(alias).get(run=run).total_input_tokens == INPUT_TOKENS
        assert not Artifact.objects.using(alias).exists()


def test_a_cancelled_run_can_be_retried_and_then_completes(tenant: Tenant, make_run: MakeRun) -> None:
    run = make_run(tenant)
    run_cancel(tenant_id=tenant.pk, run_id=run.pk)
    run_retry(tenant_id=tenant.pk, run_id=run.pk)
    assert steps_of(tenant, run)[FIRST].error_message is None
    assert finish(tenant, run)[-1] == "completed"
    assert reload(tenant, run).status == RunStatus.COMPLETED


def test_a_run_that_was_cancelled_before_its_first_claim_still_gets_its_prices(
    tenant: Tenant, make_run: MakeRun
) -> None:
    run = make_run(tenant)
    run_cancel(tenant_id=tenant.pk, run_id=run.pk)
    assert run_retry(tenant_id=tenant.pk, run_id=run.pk).status == RunStatus.PENDING
    finish(tenant, run)
    with tenant_context(tenant) as alias:
        assert RunCost.objects.using(alias).get(run=run).unpriced_steps == 0
