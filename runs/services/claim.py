"""Claim a step by compare-and-set, with a lease in database time and a fencing token."""

from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.db.models.expressions import CombinedExpression
from django.db.models.functions import Coalesce, Now
from django.utils.translation import ngettext

from audit.log.entries import record
from runs.models import WORKING, Run, RunStatus, Step, StepStatus
from runs.services.finish import fail_run
from runs.services.price_snapshot import price_snapshot
from runs.types import Claim, PinnedPrompt

# Due: pending, and any retry delay has passed.
DUE = Q(status=StepStatus.PENDING) & (Q(not_before=None) | Q(not_before__lte=Now()))
# Lapsed: its worker stopped renewing the lease.
LAPSED = Q(status=StepStatus.RUNNING) & Q(lease_expires_at__lt=Now())

# Each time a tenant's database is replaced, the tokens of unfinished steps move past the next multiple of this, so a
# token issued before a restore can never match one issued after it.
FENCE = 1_000_000


def step_claim(*, alias: str, tenant_id: str, run_id: UUID, step: str, owner: str) -> Claim | None:
    """Claim the step for `owner` (a worker's name) if it is the run's current step and has no worker; else None.

    1. lock run and step if the step is due or lapsed: a second worker waits for the lock and then finds neither;
    2. compare and set: increment the token, start the lease; 3. if the step has used up its attempts on lost workers,
    fail it instead; 4. write the audit entry.
    """
    with transaction.atomic(using=alias):
        row = _locked_if_claimable(alias, run_id, step)
        if row is None or not _take(alias, row, owner):
            return None
        taken_over = row.status == StepStatus.RUNNING
        row.lease_token += 1
        row.retry_count += int(taken_over)
        if row.retry_count >= settings.RUN_MAX_ATTEMPTS:
            reason = ngettext(
                "The worker was lost during its %(n)d attempt.",
                "The worker was lost during each of %(n)d attempts.",
                row.retry_count,
            ) % {"n": row.retry_count}
            fail_run(alias, row, reason)
            return None
        _record_start(alias, row, owner, taken_over=taken_over)
    return _claim_of(tenant_id, row)


def lease_renew(*, alias: str, claim: Claim) -> bool:
    """Extend the lease to its full length from now; return False if the claim is no longer current."""
    current = Step.objects.using(alias).filter(
        pk=claim.step_id, run_id=claim.run_id, lease_token=claim.token, status=StepStatus.RUNNING
    )
    return bool(current.update(lease_expires_at=_lease_end()))


def _locked_if_claimable(alias: str, run_id: UUID, step: str) -> Step | None:
    """Lock the run, then the step, and return the step with its run and prompt; None if it cannot be claimed."""
    return (
        Step.objects.using(alias)
        .select_related("run", "prompt")
        .select_for_update(of=("run", "self"))
        .filter(DUE | LAPSED, run_id=run_id, step=step, run__status__in=WORKING, run__current_step=step)
        .first()
    )


def _take(alias: str, row: Step, owner: str) -> bool:
    """Give the locked step to `owner`. The token is compared again, so that safety does not rest on the lock alone."""
    current = Step.objects.using(alias).filter(pk=row.pk, lease_token=row.lease_token, status=row.status)
    return bool(
        current.update(
            status=StepStatus.RUNNING,
            lease_token=F("lease_token") + 1,
            lease_owner=owner,
            lease_expires_at=_lease_end(),
            started_at=Coalesce("started_at", Now()),
            not_before=None,
            wake_after=None,
            wake_count=0,
            # A takeover counts as an attempt.
            retry_count=row.retry_count + int(row.status == StepStatus.RUNNING),
            # Only the first claim stores prices; a token counts the claims since the fence.
            **({} if row.lease_token % FENCE else price_snapshot(row)),
        )
    )


def _lease_end() -> CombinedExpression:
    return Now() + timedelta(seconds=settings.RUN_LEASE_S)


def _record_start(alias: str, row: Step, owner: str, *, taken_over: bool) -> None:
    run = row.run
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
    prompt = row.prompt
    return Claim(
        tenant_id=tenant_id,
        run_id=row.run_id,
        step=row.step,
        step_id=row.pk,
        token=row.lease_token,
        attempt=row.retry_count + 1,
        provider=str(row.llm_provider),
        model=str(row.llm_model),
        prompt=PinnedPrompt(prompt.pk, prompt.version, prompt.content, prompt.variables) if prompt else None,
        config=row.run.config,
    )
