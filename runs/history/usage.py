"""Sum up how each version of a prompt was used by the steps that pinned it."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import LiteralString

from django.db import connections

from audit.log.safe_search_path import catalog_only
from prompts.types import VersionUsage

# A step without tokens, such as one that is running, has no cost. The mean leaves out steps that used an unpriced unit.
USAGE: LiteralString = """
WITH begun AS (
    SELECT step.prompt_id, step.status, (step.token_usage->>'input')::bigint AS input,
           (step.token_usage->>'output')::bigint AS output, cost.llm_cost, cost.unpriced_tokens
      FROM public.steps AS step JOIN public.step_costs AS cost ON cost.step_id = step.id
     WHERE step.prompt_id = ANY(%s) AND step.started_at IS NOT NULL
)
SELECT prompt_id, count(*), count(*) FILTER (WHERE status = 'completed'), count(*) FILTER (WHERE status = 'failed'),
       avg(input)::bigint, avg(output)::bigint,
       avg(llm_cost) FILTER (WHERE unpriced_tokens IS NULL AND input IS NOT NULL),
       count(*) FILTER (WHERE unpriced_tokens IS NOT NULL)
  FROM begun GROUP BY prompt_id
"""
# Costs are rounded to a billionth of a US dollar.
DIGITS = Decimal("0.000000001")


def prompt_usage(*, alias: str, prompt_ids: Collection[int]) -> dict[int, VersionUsage]:
    """Return {prompt version's id: usage}. Versions with which no step has started are left out."""
    with catalog_only(connections[alias]), connections[alias].cursor() as cursor:
        cursor.execute(USAGE, [list(prompt_ids)])
        rows = cursor.fetchall()
    return {
        prompt_id: VersionUsage(
            used, completed, failed, tokens_in, tokens_out, cost if cost is None else cost.quantize(DIGITS), unpriced
        )
        for prompt_id, used, completed, failed, tokens_in, tokens_out, cost, unpriced in rows
    }
