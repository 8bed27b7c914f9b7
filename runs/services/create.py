"""Create a run: pin its models and prompts, record it and wake a worker."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from django.db import IntegrityError, transaction

from audit.log.actor import current_actor
from audit.log.entries import record
from prompts.services import prompt_mark_used
from runs.config import RunConfig, config_from_document
from runs.messages.sending import require_broker
from runs.models import PauseCause, Run, RunStatus, Step, StepStatus
from runs.services.plan import plan_run
from runs.services.transition import paused
from runs.steps.finish import PIPELINE
from runs.steps.wake import route_of, wake_on_commit
from runs.summaries.summarize import summarize_on_commit
from runs.turns import Waiting
from runs.types import PinnedStep
from tenants.lifecycle.work_mark import mark_working
from tenants.routing.context import tenant_context


def run_create(
    *, tenant_id: str, config: RunConfig | Mapping[str, object], hold: bool = False, run_id: UUID | None = None
) -> Run:
    """Create a run, wake a worker for its first step, and return the run.

    1. check the configuration and pin steps, models and prompts; 2. check that the broker answers; 3. mark the tenant
    for the sweep; 4. insert run, steps and audit entry and mark the prompts as used, in one transaction; 5. send the
    wake-up after the commit.
    With `hold`, or if the first step needs a review, the run begins paused, and 2 and 5 are left out.
    If a run has the id `run_id` already, such as one from the same form sent twice, that run is returned as it is.
    Raises `TenantError`, `InvalidRunConfig`, `LLMError`, `PromptError` or `BrokerUnavailable`, having created nothing.
    """
    checked = config if isinstance(config, RunConfig) else config_from_document(dict(config))
    with tenant_context(tenant_id) as alias:
        known = _known(alias, run_id)
        if known is not None:
            return known
        steps = plan_run(alias=alias, config=checked)
        beginning = _beginning(steps[0], hold=hold)
        if beginning["status"] == RunStatus.PENDING:
            require_broker()
        mark_working(tenant_id)
        try:
            return _create(alias, tenant_id, checked, steps, {**beginning, **({"pk": run_id} if run_id else {})})
        except IntegrityError:
            # The same form, sent at the same time, was faster.
            known = _known(alias, run_id)
            if known is None:
                raise
            return known


def _known(alias: str, run_id: UUID | None) -> Run | None:
    return Run.objects.using(alias).filter(pk=run_id).first() if run_id else None


def _create(
    alias: str, tenant_id: str, config: RunConfig, steps: Sequence[PinnedStep], beginning: Mapping[str, object]
) -> Run:
    with transaction.atomic(using=alias):
        run = _insert(alias, config, steps, beginning)
        summarize_on_commit(alias=alias, tenant_id=tenant_id, run_id=run.pk)
        if run.status == RunStatus.PENDING:
            route = route_of(steps[0].provider, steps[0].model)
            wake_on_commit(alias=alias, waiting=Waiting(tenant_id, str(run.pk), steps[0].step, route))
        details = {"steps": [step.step for step in steps], "prompts": [step.prompt_id for step in steps]}
        record(
            using=alias,
            action="run.create",
            resource_type="run",
            resource_id=str(run.pk),
            details={**details, **({"paused": run.pause_cause} if run.pause_cause else {})},
        )
    return run


def _beginning(first: PinnedStep, *, hold: bool) -> dict[str, object]:
    """Return the status that the run begins with, and why it is paused if it is."""
    if hold:
        return paused(PauseCause.HOLD, current_actor().user_id)
    if first.review:
        return paused(PauseCause.REVIEW, PIPELINE)
    return {"status": RunStatus.PENDING}


def _insert(alias: str, config: RunConfig, steps: Sequence[PinnedStep], beginning: Mapping[str, object]) -> Run:
    prompt_mark_used(alias=alias, prompt_ids=[step.prompt_id for step in steps])
    run = Run.objects.using(alias).create(current_step=steps[0].step, config=config.document(), **beginning)
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
            review=step.review,
            on_truncation=step.on_truncation,
            output_limit=step.output_limit,
            fallbacks=list(step.fallbacks) or None,
        )
        for step in steps
    )
    run.refresh_from_db(using=alias)
    return run
