"""Claim a step: compare-and-set, with a lease in database time and a fencing token."""

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Case, F, Q, QuerySet, Value, When
from django.db.models.expressions import CombinedExpression
from django.db.models.functions import Coalesce, Now
from django.utils.translation import gettext as _

from audit.services import record
from llm.selectors import prices_of
from runs.models import WORKING, Run, RunStatus, Step, StepStatus
from runs.services.finish import fail_run
from runs.types import Claim

# Due: waiting for its turn, and not told to wait longer.
DUE = Q(status=StepStatus.PENDING) & (Q(not_before=None) | Q(not_before__lte=Now()))
# Lapsed: its worker stopped renewing the lease.
LAPSED = Q(status=StepStatus.RUNNING) & Q(lease_expires_at__lt=Now())


def step_claim(*, alias: str, tenant_id: str, run_id: UUID, step: str, owner: str) -> Claim | None:
    """Take the step for `owner` (a worker's name) if it is the run's turn and nobody works on it; else None.

    1. look, without a lock: most repeated wake-ups end here; 2. lock the run, so that the claim and a change of the
    run's status wait for each other; 3. update the step if it still is due or lapsed, raising its token: of two claims
    one updates a row; 4. a step lost by as many workers as there are attempts fails instead.
    """
    waiting = _claimable(alias, run_id, step).filter(run__status__in=WORKING, run__current_step=step).first()
    if waiting is None:
        return None
    prices = prices_of(str(waiting.llm_provider), str(waiting.llm_model))
    with transaction.atomic(using=alias):
        run = Run.objects.using(alias).select_for_update().get(pk=run_id)
        if run.status not in WORKING or run.current_step != step:
            return None
        if not _take(_claimable(alias, run_id, step), owner, prices):
            return None
        row = Step.objects.using(alias).get(run_id=run_id, step=step)
        if row.retry_count >= settings.RUN_MAX_ATTEMPTS:
            fail_run(alias, run, row, _("The worker was lost during each of %(n)d attempts.") % {"n": row.retry_count})
            return None
        _record_start(alias, run, row, owner, taken_over=waiting.status == StepStatus.RUNNING)
    return _claim_of(tenant_id, row)


def lease_renew(*, alias: str, claim: Claim) -> bool:
    """Move the lease's end to a full lease from now; False where the claim is no longer the current one."""
    current = Step.objects.using(alias).filter(pk=claim.step_id, lease_token=claim.token, status=StepStatus.RUNNING)
    return bool(current.update(lease_expires_at=_lease_end()))


def _claimable(alias: str, run_id: UUID, step: str) -> QuerySet[Step]:
    return Step.objects.using(alias).filter(DUE | LAPSED, run_id=run_id, step=step)


def _take(claimable: QuerySet[Step], owner: str, prices: Mapping[str, Decimal | None]) -> bool:
    """Update the one row; the conditions are on that row alone, so that PostgreSQL checks them again after a wait."""
    return bool(
        claimable.update(
            status=StepStatus.RUNNING,
            lease_token=F("lease_token") + 1,
            lease_owner=owner,
            lease_expires_at=_lease_end(),
            started_at=Coalesce("started_at", Now()),
            not_before=None,
            wake_after=None,
            wake_count=0,
            # A takeover is another attempt.
            retry_count=Case(When(status=StepStatus.RUNNING, then=F("retry_count") + 1), default=F("retry_count")),
            # The price of the first attempt is the price of the step.
            **{column: Coalesce(column, _price(price)) for column, price in prices.items()},
        )
    )


def _lease_end() -> CombinedExpression:
    return Now() + timedelta(seconds=settings.RUN_LEASE_S)


def _price(price: Decimal | None) -> Value:
    return Value(price, output_field=Step._meta.get_field("cost_per_1k_input_tokens"))


def _record_start(alias: str, run: Run, row: Step, owner: str, *, taken_over: bool) -> None:
    details = {"run_id": str(run.pk), "step": row.step, "attempt": row.retry_count + 1, "token": row.lease_token}
    if run.status == RunStatus.PENDING:
        Run.objects.using(alias).filter(pk=run.pk).update(status=RunStatus.RUNNING)
        record(using=alias, action="run.start", resource_type="run", resource_id=str(run.pk))
    if taken_over:
        record(
            using=alias,
            action="step.retry",
            resource_type="step",
            resource_id=str(row.pk),
            details={**details, "reason": "lease expired"},
        )
    record(
        using=alias,
        action="step.start",
        resource_type="step",
        resource_id=str(row.pk),
        details={**details, "worker": owner, "provider": row.llm_provider, "model": row.llm_model},
    )


def _claim_of(tenant_id: str, row: Step) -> Claim:
    return Claim(
        tenant_id=tenant_id,
        run_id=row.run_id,
        step=row.step,
        step_id=row.pk,
        token=row.lease_token,
        attempt=row.retry_count + 1,
        provider=str(row.llm_provider),
        model=str(row.llm_model),
        prompt_id=int(row.prompt_id or 0),
    )
