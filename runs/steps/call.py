"""Calls to providers. Each has a row that is committed before the request is sent, and settled once its usage is known.

So a call that may have been billed is on record even if its worker dies, and no call begins once a pause or a
cancellation is committed. The row reserves the most that the call can cost from the budgets (`runs.steps.budget`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from django.db import connections, transaction

from runs.steps.budget import BegunCall, budgets_of, require_within
from runs.types import Claim

# Locks the run's row, so that a process that pauses, cancels or takes over commits either before this statement, which
# then inserts nothing, or after it.
BEGIN = """
INSERT INTO public.calls (
    run_id, step_id, version, attempt, lease_token, llm_provider, llm_model, status, max_input_tokens, max_output_tokens
)
SELECT current.run_id, current.id, current.version, %(attempt)s, %(token)s, %(provider)s, %(model)s, 'open',
       %(max_input_tokens)s, %(max_output_tokens)s
  FROM (
    SELECT s.id, s.run_id, s.version
      FROM public.runs r JOIN public.steps s ON s.run_id = r.id
     WHERE r.id = %(run)s AND r.status IN ('pending', 'running')
       AND s.id = %(step)s AND s.status = 'running' AND s.lease_token = %(token)s
       FOR SHARE OF r
  ) AS current
RETURNING id, bound_usd, started_at
"""

# Settles a call once, and adds what it used to its step, unit by unit.
SETTLE = """
WITH settled AS (
    UPDATE public.calls
       SET status = 'settled', token_usage = %(usage)s::jsonb, request_id = %(request_id)s,
           finish_reason = %(finish_reason)s, error_code = %(error_code)s, ended_at = statement_timestamp()
     WHERE id = %(call)s AND run_id = %(run)s AND status <> 'settled'
 RETURNING step_id
)
UPDATE public.steps AS step
   SET token_usage = (
        SELECT jsonb_object_agg(unit, tokens)
          FROM (
            SELECT unit, sum(tokens::bigint) AS tokens
              FROM (
                SELECT * FROM jsonb_each_text(coalesce(step.token_usage, '{}'))
                UNION ALL
                SELECT * FROM jsonb_each_text(%(usage)s::jsonb)
              ) AS counted (unit, tokens)
             GROUP BY unit
          ) AS total
       )
  FROM settled
 WHERE step.id = settled.step_id AND %(usage)s::jsonb <> '{}'
"""


@dataclass(frozen=True)
class CallEnd:
    """How a call ended."""

    # Tokens by unit, as `Step.token_usage`; empty if the provider billed nothing.
    token_usage: dict[str, int]
    request_id: str | None = None
    finish_reason: str | None = None
    # The code of the error, if the call failed.
    error_code: str | None = None


def call_begin(*, alias: str, claim: Claim, max_input_tokens: int, max_output_tokens: int) -> int | None:
    """Record that a call of the claimed step begins, and return its id.

    Returns None, having recorded nothing, if the claim is no longer current, or the run was paused or has ended: then
    the request must not be sent. The limits bound what the call can cost if its outcome stays unknown. Raises
    `BudgetReached`, having recorded and reserved nothing.
    """
    budgets = budgets_of(claim)
    if not budgets:
        begun = _insert(alias, claim, max_input_tokens, max_output_tokens)
        return begun.id if begun else None
    with transaction.atomic(using=alias):
        # The row reserves the call's bound, and its month stays locked until the commit.
        begun = _insert(alias, claim, max_input_tokens, max_output_tokens)
        if begun is not None:
            require_within(alias=alias, claim=claim, call=begun, budgets=budgets)
    return begun.id if begun else None


def call_settle(*, alias: str, claim: Claim, call_id: int, end: CallEnd) -> None:
    """Settle the call and count its tokens, unless it is settled already. Needs no current claim."""
    with connections[alias].cursor() as cursor:
        cursor.execute(
            SETTLE,
            {
                "call": call_id,
                "run": claim.run_id,
                "usage": json.dumps(end.token_usage),
                "request_id": end.request_id,
                "finish_reason": end.finish_reason,
                "error_code": end.error_code,
            },
        )


def call_mark_unknown(*, alias: str, claim: Claim, call_id: int, error_code: str | None) -> None:
    """Record that the call may have been billed for an unknown amount, unless it is settled."""
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "UPDATE public.calls SET status = 'unknown', error_code = %s, ended_at = statement_timestamp()"
            " WHERE id = %s AND run_id = %s AND status <> 'settled'",
            [error_code, call_id, claim.run_id],
        )


def _insert(alias: str, claim: Claim, max_input_tokens: int, max_output_tokens: int) -> BegunCall | None:
    with connections[alias].cursor() as cursor:
        cursor.execute(
            BEGIN,
            {
                "run": claim.run_id,
                "step": claim.step_id,
                "token": claim.token,
                "attempt": claim.attempt,
                "provider": claim.provider,
                "model": claim.model,
                "max_input_tokens": max_input_tokens,
                "max_output_tokens": max_output_tokens,
            },
        )
        row = cursor.fetchone()
    return BegunCall(*row) if row else None
