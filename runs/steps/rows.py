"""Read and lock a step's rows, for the worker that claims or ends it: first the run, then the step."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

from django.db import connections

from config.base.rows import fetch_one, object_of
from prompts.models import Prompt
from runs.models import Run, Step
from runs.types import Claim

# The same conditions as `DUE`, `LAPSED` and `APPROVED` of `runs.steps.claim`, by which the sweep finds steps.
LOCK_CLAIMABLE: LiteralString = """
SELECT s.id, s.run_id, s.step, s.status, s.llm_provider, s.llm_model, s.retry_count, s.lost_count, s.lease_token,
       s.failing_since, s.version, s.review_comment, s.on_truncation, coalesce(s.max_output_tokens, s.output_limit),
       s.prompt_id, s.prices,
       r.id, r.status, r.config,
       p.id, p.version, p.content, p.variables,
       EXISTS (SELECT 1 FROM public.steps later WHERE later.run_id = s.run_id AND later.position > s.position)
  FROM public.steps s
  JOIN public.runs r ON r.id = s.run_id
  LEFT JOIN public.prompts p ON p.id = s.prompt_id
 WHERE s.run_id = %(run)s AND s.step = %(step)s
   AND r.status IN ('pending', 'running') AND r.current_step = s.step
   AND (s.status = 'pending' AND (s.not_before IS NULL OR s.not_before <= statement_timestamp())
        OR s.status = 'running' AND s.lease_expires_at < statement_timestamp())
   AND (NOT s.review OR s.approved_at IS NOT NULL)
   FOR UPDATE OF r, s
"""
CLAIMABLE = (
    *("id", "run_id", "step", "status", "llm_provider", "llm_model", "retry_count", "lost_count", "lease_token"),
    *("failing_since", "version", "review_comment", "on_truncation", "max_output_tokens", "prompt_id"),
    "prices",
)
CLAIMABLE_RUN = ("id", "status", "config")
PROMPT = ("id", "version", "content", "variables")

# Checks the run's id and the step's name too: a restore may have removed the step and given its primary key to another.
LOCK_CLAIMED: LiteralString = """
SELECT s.id, s.run_id, s.step, s.status, s.llm_provider, s.llm_model, s.retry_count, s.lost_count, s.lease_token,
       s.token_usage,
       r.id, r.status, r.pause_cause, r.paused_by,
       (SELECT json_build_array(n.step, n.review, n.approved_at IS NOT NULL, n.llm_provider, n.llm_model)
          FROM public.steps n WHERE n.run_id = s.run_id AND n.position > s.position ORDER BY n.position LIMIT 1)
  FROM public.steps s
  JOIN public.runs r ON r.id = s.run_id
 WHERE s.id = %(id)s AND s.run_id = %(run)s AND s.step = %(step)s
   FOR UPDATE OF r, s
"""
CLAIMED = (
    *("id", "run_id", "step", "status", "llm_provider", "llm_model", "retry_count", "lost_count", "lease_token"),
    "token_usage",
)
CLAIMED_RUN = ("id", "status", "pause_cause", "paused_by")

IS_CURRENT: LiteralString = """
SELECT EXISTS (
    SELECT 1 FROM public.steps
     WHERE id = %(id)s AND run_id = %(run)s AND step = %(step)s AND lease_token = %(token)s AND status = 'running'
)
"""

OUTPUTS: LiteralString = """
SELECT step, output_path, output_digest
  FROM public.steps WHERE run_id = %(run)s AND step = ANY(%(steps)s) AND output_path IS NOT NULL
"""


@dataclass(frozen=True)
class Following:
    """A run's next step."""

    step: str
    review: bool
    is_approved: bool
    provider: str | None
    model: str | None


def lock_claimable(alias: str, run_id: UUID, step: str) -> tuple[Step, bool] | None:
    """Lock the step and its run; return the step, and whether it is the last, or None if it cannot be claimed.

    The step has its run and prompt, each with only the columns that a claim needs.
    """
    found = fetch_one(alias, LOCK_CLAIMABLE, {"run": run_id, "step": step})
    if found is None:
        return None
    of_step, of_run, of_prompt, [has_following] = _split(found, CLAIMABLE, CLAIMABLE_RUN, PROMPT)
    row = object_of(Step, alias, CLAIMABLE, of_step)
    row.run = object_of(Run, alias, CLAIMABLE_RUN, of_run)
    row.prompt = object_of(Prompt, alias, PROMPT, of_prompt) if row.prompt_id else None
    return row, not has_following


def lock_claimed(alias: str, claim: Claim) -> tuple[Step, Following | None] | None:
    """Lock the claimed step and its run; return the step, and the run's next step, which is None after the last.

    Returns None if the step no longer exists. Does not check whether the claim is current.
    """
    found = fetch_one(alias, LOCK_CLAIMED, {"id": claim.step_id, "run": claim.run_id, "step": claim.step})
    if found is None:
        return None
    of_step, of_run, [following] = _split(found, CLAIMED, CLAIMED_RUN)
    row = object_of(Step, alias, CLAIMED, of_step)
    row.run = object_of(Run, alias, CLAIMED_RUN, of_run)
    return row, Following(*following) if following else None


def is_current(alias: str, claim: Claim) -> bool:
    """Return whether the claim is current. Locks nothing, so the answer may be outdated a moment later."""
    values = {"id": claim.step_id, "run": claim.run_id, "step": claim.step, "token": claim.token}
    found = fetch_one(alias, IS_CURRENT, values)
    return bool(found and found[0])


def earlier_outputs(alias: str, claim: Claim, steps: Collection[str]) -> list[tuple[str, str, str | None]]:
    """Return (step, path, digest) for each output of these steps of the claim's run."""
    with connections[alias].cursor() as cursor:
        cursor.execute(OUTPUTS, {"run": claim.run_id, "steps": list(steps)})
        return list(cursor.fetchall())


def _split(row: Sequence[Any], *columns: Sequence[str]) -> list[Sequence[Any]]:
    """Return the values of each table's columns, and the remaining ones."""
    parts, start = [], 0
    for names in columns:
        parts.append(row[start : start + len(names)])
        start += len(names)
    return [*parts, row[start:]]
