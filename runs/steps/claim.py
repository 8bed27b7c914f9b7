"""Claim a step by compare-and-set, with a lease in database time and a fencing token."""

import json
from collections.abc import Collection
from datetime import timedelta
from typing import LiteralString
from uuid import UUID

from django.conf import settings
from django.db import connections, transaction
from django.db.models import Q
from django.db.models.expressions import CombinedExpression
from django.db.models.functions import Now
from django.utils.translation import ngettext

from audit.log.entries import record
from llm.selectors import find_model
from llm.types import ModelPrices, ResolvedModel
from runs.models import Call, CallStatus, Run, RunStatus, Step, StepStatus
from runs.steps.fallbacks.reroute import open_routes, step_reroute
from runs.steps.finish import fail_run
from runs.steps.price_snapshot import price_snapshot
from runs.steps.rows import lock_claimable
from runs.steps.wake import UNKNOWN_ROUTE, route_of
from runs.summaries.summarize import summarize_on_commit
from runs.types import Claim, PinnedPrompt

# Due: pending, and any retry delay has passed.
DUE = Q(status=StepStatus.PENDING) & (Q(not_before=None) | Q(not_before__lte=Now()))
# Lapsed: its worker stopped renewing the lease.
LAPSED = Q(status=StepStatus.RUNNING) & Q(lease_expires_at__lt=Now())
# Needs no review, or has passed it.
APPROVED = Q(review=False) | Q(approved_at__isnull=False)

# Each time a tenant's database is replaced, the tokens of unfinished steps move past the next multiple of this, so a
# token issued before a restore can never match one issued after it.
FENCE = 1_000_000

TAKE: LiteralString = """
UPDATE public.steps
   SET status = 'running', lease_token = lease_token + 1, lease_owner = %(owner)s,
       lease_expires_at = statement_timestamp() + %(lease_s)s * interval '1 second',
       started_at = coalesce(started_at, statement_timestamp()),
       not_before = NULL, wake_after = NULL, wake_count = 0, lost_count = lost_count + (status = 'running')::integer,
       cost_per_1k_input_tokens = CASE WHEN kept.prices THEN cost_per_1k_input_tokens
                                       ELSE %(input_price)s::numeric END,
       cost_per_1k_output_tokens = CASE WHEN kept.prices THEN cost_per_1k_output_tokens
                                        ELSE %(output_price)s::numeric END,
       prices = CASE WHEN kept.prices THEN steps.prices ELSE %(prices)s::jsonb END
  FROM (
    -- A step whose prices were not known gets them later, and so does one with another model (`runs.steps.fallbacks`),
    -- unless a call may have used something.
    SELECT %(was_claimed)s AND (
               known.cost_per_1k_input_tokens + known.cost_per_1k_output_tokens IS NOT NULL
               OR known.token_usage <> '{}'
               OR EXISTS (
                   SELECT 1 FROM public.calls
                    WHERE step_id = known.id AND (status <> 'settled' OR token_usage IS DISTINCT FROM '{}')
               )
           ) AS prices
      FROM public.steps AS known WHERE known.id = %(id)s
  ) AS kept
 WHERE id = %(id)s AND lease_token = %(token)s AND status = %(status)s
RETURNING steps.prices::text
"""


def step_claim(
    *, alias: str, tenant_id: str, run_id: UUID, step: str, owner: str, route: str | None = None
) -> Claim | None:
    """Claim the step for `owner` (a worker's name), and return the claim; return None if the step is not claimed.

    1. lock run and step if the run is pending or running, and the step is its current one, waits for no review, and is
    due or lapsed: a second worker waits for the lock, and then finds that the step is neither; 2. if the model of a
    pending step can no longer be used, but a fallback can, and no call may have used tokens, move the step to the
    fallback and wake a worker instead; 3. compare and set: increment the token, start the lease, and store the prices
    unless the step keeps its own; 4. mark the open calls of a lost worker as unknown, and if too many workers in a row
    were lost with the step, fail it instead; 5. mark a pending run as running, and write the audit entries. `route` is
    that of the worker's turn: a turn of a route that the step has left gives no right to execute it. None: the worker
    has no turn.
    """
    with transaction.atomic(using=alias):
        found = lock_claimable(alias, run_id, step)
        if found is None:
            return None
        row, is_last = found
        if route not in (None, UNKNOWN_ROUTE, route_of(row.llm_provider, row.llm_model)):
            return None
        model = find_model(str(row.llm_provider), str(row.llm_model))
        if _is_rerouted(alias, tenant_id, row, model) or not _take(alias, row, owner, model):
            return None
        taken_over = row.status == StepStatus.RUNNING
        row.lease_token += 1
        row.lost_count += int(taken_over)
        if taken_over:
            calls_mark_unknown(alias=alias, step_id=row.pk)
        if row.lost_count >= settings.RUN_MAX_LOST_WORKERS:
            reason = ngettext(
                "The worker was lost during %(n)d attempt.",
                "The worker was lost during %(n)d attempts in a row.",
                row.lost_count,
            ) % {"n": row.lost_count}
            fail_run(alias, tenant_id, row, reason)
            return None
        _record_start(alias, tenant_id, row, owner, taken_over=taken_over)
    return _claim_of(tenant_id, row, model, is_last=is_last)


def _is_rerouted(alias: str, tenant_id: str, row: Step, model: ResolvedModel | None) -> bool:
    """Move the locked step, if pending, to a fallback if its model can no longer be used; return whether it was moved.

    A step that is not moved is executed with its own model, as long as the catalogue has it.
    """
    if (model is not None and model.is_active) or row.status != StepStatus.PENDING or not row.fallbacks:
        return False
    return step_reroute(alias=alias, tenant_id=tenant_id, row=row, reason="model_inactive", open_routes=open_routes())


def calls_mark_unknown(*, alias: str, step_id: int) -> None:
    """Record that the outcome of the step's open calls is unknown."""
    calls = Call.objects.using(alias).filter(step_id=step_id, status=CallStatus.OPEN)
    calls.update(status=CallStatus.UNKNOWN, ended_at=Now())


def leases_renew(*, alias: str, claims: Collection[Claim]) -> list[Claim]:
    """Extend the leases of one tenant's claims to their full length from now; return the claims that were lost."""
    held = Q()
    for claim in claims:
        held |= Q(pk=claim.step_id, run_id=claim.run_id, lease_token=claim.token)
    current = Step.objects.using(alias).filter(held, status=StepStatus.RUNNING)
    if current.update(lease_expires_at=_lease_end()) == len(claims):
        return []
    renewed = set(current.values_list("pk", flat=True))
    return [claim for claim in claims if claim.step_id not in renewed]


def _take(alias: str, row: Step, owner: str, model: ResolvedModel | None) -> bool:
    """Give the locked step to `owner`; return False if its token or status has changed, despite the lock."""
    snapshot = price_snapshot(model)
    with connections[alias].cursor() as cursor:
        cursor.execute(
            TAKE,
            {
                "id": row.pk,
                "token": row.lease_token,
                "status": row.status,
                "owner": owner,
                "lease_s": settings.RUN_LEASE_S,
                # Only the first claim stores prices; a token counts the claims since the fence.
                "was_claimed": bool(row.lease_token % FENCE),
                "input_price": snapshot["cost_per_1k_input_tokens"],
                "output_price": snapshot["cost_per_1k_output_tokens"],
                "prices": json.dumps(snapshot["prices"]),
            },
        )
        found = cursor.fetchone()
    if found is None:
        return False
    row.prices = json.loads(found[0]) if found[0] else None
    return True


def _lease_end() -> CombinedExpression:
    return Now() + timedelta(seconds=settings.RUN_LEASE_S)


def _record_start(alias: str, tenant_id: str, row: Step, owner: str, *, taken_over: bool) -> None:
    run = row.run
    details = {"run_id": str(run.pk), "step": row.step, "attempt": _attempt(row), "token": row.lease_token}
    if run.status == RunStatus.PENDING:
        Run.objects.using(alias).filter(pk=run.pk).update(status=RunStatus.RUNNING)
        summarize_on_commit(alias=alias, tenant_id=tenant_id, run_id=run.pk)
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


def _attempt(row: Step) -> int:
    return row.retry_count + row.lost_count + 1


def _claim_of(tenant_id: str, row: Step, model: ResolvedModel | None, *, is_last: bool) -> Claim:
    prompt = row.prompt
    return Claim(
        tenant_id=tenant_id,
        run_id=row.run_id,
        step=row.step,
        step_id=row.pk,
        token=row.lease_token,
        attempt=_attempt(row),
        failures=row.retry_count,
        version=row.version,
        provider=str(row.llm_provider),
        model=str(row.llm_model),
        resolved=model,
        long_context_over=ModelPrices.from_document(row.prices).long_context_over,
        max_output_tokens=row.max_output_tokens,
        on_truncation=row.on_truncation,
        is_last=is_last,
        failing_since=row.failing_since,
        review_comment=row.review_comment,
        prompt=PinnedPrompt(prompt.pk, prompt.version, prompt.content, prompt.variables) if prompt else None,
        config=row.run.config,
    )
