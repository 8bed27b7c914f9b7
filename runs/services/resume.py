"""Resume a paused run."""

from decimal import Decimal
from uuid import UUID

from django.db import transaction
from django.db.models import DurationField, ExpressionWrapper, F
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from runs.config import MAX_BUDGET_USD, is_budget
from runs.errors import InvalidRunConfig
from runs.models import PauseCause, Run, Step
from runs.services.transition import RESUME, change_run, continue_run, current_of, lock_run, lock_steps, record_change
from tenants.lifecycle.work_mark import mark_working
from tenants.routing.context import tenant_context


def run_resume(*, tenant_id: str, run_id: UUID | str, budget_usd: Decimal | None = None) -> Run:
    """Resume a run that a person or a budget paused or that was created on hold, and return it.

    `budget_usd` replaces the budget in the run's configuration. If the next step needs a review, the run stays paused
    for the review. Raises `TenantError`, `UnknownRun`, `InvalidRunStep`, `InvalidRunConfig` if the budget is invalid,
    or `RunStateConflict`, including for a run that is waiting for a review.
    """
    if budget_usd is not None and not is_budget(budget_usd):
        raise InvalidRunConfig(
            _(
                "A run's budget must be an amount in USD above 0 and up to %(limit)d, with at most six decimal places,"
                " not %(amount)s."
            )
            % {"limit": MAX_BUDGET_USD, "amount": budget_usd},
            code="run_budget_invalid",
        )
    with tenant_context(tenant_id) as alias:
        mark_working(tenant_id)
        with transaction.atomic(using=alias):
            run = lock_run(alias, run_id, RESUME)
            cause, steps = run.pause_cause, lock_steps(alias, run)
            if budget_usd is not None:
                change_run(alias, run, config={**(run.config or {}), "budget_usd": float(budget_usd)})
            current = current_of(run, steps)
            if cause == PauseCause.BUDGET:
                # It said why no call was allowed.
                Step.objects.using(alias).filter(pk=current.pk).update(error_message=None)
            continue_run(
                alias=alias,
                tenant_id=tenant_id,
                run=run,
                steps=steps,
                current=current,
                delay_s=_due_in_s(alias, current),
            )
            budget = {} if budget_usd is None else {"budget_usd": str(budget_usd)}
            record_change(alias, "run.resume", run, cause=cause, step=current.step, status=run.status, **budget)
    return run


def _due_in_s(alias: str, step: Step) -> float | None:
    """Return the seconds until a step that is waiting for a retry is due; None if it is due now."""
    wait = ExpressionWrapper(F("not_before") - Now(), output_field=DurationField())
    later = Step.objects.using(alias).filter(pk=step.pk, not_before__gt=Now()).annotate(wait=wait)
    return next((row.wait.total_seconds() for row in later), None)
