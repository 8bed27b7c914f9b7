"""Create a run: pin its models and prompts, record it and wake a worker."""

from collections.abc import Mapping, Sequence

from django.db import transaction

from audit.log.entries import record
from prompts.services import prompt_mark_used
from runs.config import RunConfig, config_from_document
from runs.messages.sending import require_broker
from runs.models import Run, RunStatus, Step, StepStatus
from runs.services.plan import plan_run
from runs.services.wake import wake_on_commit
from runs.types import PinnedStep
from tenants.lifecycle.work_mark import mark_working
from tenants.routing.context import tenant_context


def run_create(*, tenant_id: str, config: RunConfig | Mapping[str, object]) -> Run:
    """Create a run and wake a worker for its first step.

    1. check the configuration and pin steps, models and prompts; 2. check that the broker answers; 3. mark the tenant
    for the sweep; 4. insert run, steps and audit entry in one transaction; 5. send the wake-up after the commit.
    Raises `TenantError`, `InvalidRunConfig`, `LLMError`, `PromptError` or `BrokerUnavailable`, having created nothing.
    """
    checked = config if isinstance(config, RunConfig) else config_from_document(dict(config))
    with tenant_context(tenant_id) as alias:
        steps = plan_run(alias=alias, config=checked)
        require_broker()
        mark_working(tenant_id)
        with transaction.atomic(using=alias):
            run = _insert(alias, checked, steps)
            wake_on_commit(alias=alias, tenant_id=tenant_id, run_id=run.pk, step=steps[0].step)
            record(
                using=alias,
                action="run.create",
                resource_type="run",
                resource_id=str(run.pk),
                details={"steps": [step.step for step in steps], "prompts": [step.prompt_id for step in steps]},
            )
    return run


def _insert(alias: str, config: RunConfig, steps: Sequence[PinnedStep]) -> Run:
    prompt_mark_used(alias=alias, prompt_ids=[step.prompt_id for step in steps])
    run = Run.objects.using(alias).create(
        status=RunStatus.PENDING, current_step=steps[0].step, config=config.document()
    )
    Step.objects.using(alias).bulk_create(
        Step(
            run=run,
            step=step.step,
            status=StepStatus.PENDING,
            position=step.position,
            llm_provider=step.provider,
            llm_model=step.model,
            prompt_id=step.prompt_id,
            started_at=None,
        )
        for step in steps
    )
    return run
