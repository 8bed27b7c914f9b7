"""Read what calls cost, from the control database only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, LiteralString, cast

from django.db import connections

from config.base.databases import CONTROL
from runs.types import CostRow
from tenants.selectors import tenant_get

# What the rows are summed by, and the SQL for it.
GROUPS: dict[str, LiteralString] = {
    "day": "to_char(day, 'YYYY-MM-DD')",
    "month": "to_char(day, 'YYYY-MM')",
    "step": "step",
    "model": "provider || '/' || model",
    "tenant": "tenant_id",
}
SUMS: tuple[LiteralString, LiteralString] = (
    "WITH chosen AS (SELECT ",
    """ AS name, calls, unknown_calls, unpriced_calls, token_usage, cost_usd, possible_usd
      FROM public.daily_costs
     WHERE (%(tenants)s::text[] IS NULL OR tenant_id = ANY(%(tenants)s::text[]))
       AND (%(step)s::text IS NULL OR step = %(step)s)
       AND (%(model)s::text IS NULL OR provider || '/' || model = %(model)s)
       AND (%(from)s::date IS NULL OR day >= %(from)s) AND (%(to)s::date IS NULL OR day <= %(to)s)
), used AS (
    SELECT name, jsonb_object_agg(unit, tokens) AS token_usage
      FROM (SELECT name, unit, sum(tokens::bigint) AS tokens
              FROM chosen, jsonb_each_text(token_usage) AS one (unit, tokens) GROUP BY name, unit) AS counted
     GROUP BY name
), summed AS (
    SELECT name, sum(calls) AS calls, sum(unknown_calls) AS unknown, sum(unpriced_calls) AS unpriced,
           sum(cost_usd) AS cost, sum(possible_usd) AS possible
      FROM chosen GROUP BY name
)
SELECT name, calls, unknown, unpriced, coalesce(token_usage, '{}')::text, cost, possible
  FROM summed LEFT JOIN used USING (name) ORDER BY name
""",
)


@dataclass(frozen=True)
class Chosen:
    """The calls whose costs are shown. None means no restriction; the days `first` and `last` are included."""

    tenant_ids: Sequence[str] | None = None
    first: date | None = None
    last: date | None = None
    step: str | None = None
    # As "provider/model".
    model: str | None = None


def cost_rows(*, tenant_id: str | None, by: str, first: date | None = None, last: date | None = None) -> list[CostRow]:
    """Return the costs of one tenant (None: all), grouped `by` a key of `GROUPS`, for the days `first` to `last`.

    None for a day means no limit. Raises `UnknownTenant`.
    """
    if tenant_id is not None:
        tenant_get(tenant_id)
    return costs_chosen(Chosen(None if tenant_id is None else [tenant_id], first, last), by=by)


def costs_chosen(chosen: Chosen, *, by: str) -> list[CostRow]:
    """Return the costs of the chosen calls, summed `by` a key of `GROUPS`."""
    before, after = SUMS
    values = {
        "tenants": None if chosen.tenant_ids is None else list(chosen.tenant_ids),
        "from": chosen.first,
        "to": chosen.last,
        "step": chosen.step,
        "model": chosen.model,
    }
    with connections[CONTROL].cursor() as cursor:
        cursor.execute(before + GROUPS[by] + after, values)
        return [_row(values) for values in cursor.fetchall()]


def total_of(rows: Sequence[CostRow]) -> CostRow:
    """Return the sum of the rows, under the name ""."""
    usage: dict[str, int] = {}
    for row in rows:
        for unit, tokens in row["token_usage"].items():
            usage[unit] = usage.get(unit, 0) + tokens
    return CostRow(
        name="",
        calls=sum(row["calls"] for row in rows),
        unknown_calls=sum(row["unknown_calls"] for row in rows),
        unpriced_calls=sum(row["unpriced_calls"] for row in rows),
        token_usage=usage,
        cost_usd=_sum([row["cost_usd"] for row in rows]),
        possible_usd=_sum([row["possible_usd"] for row in rows]),
    )


def _row(values: Sequence[Any]) -> CostRow:
    named = dict(zip(CostRow.__annotations__, values, strict=True))
    return cast(CostRow, {**named, "token_usage": json.loads(named["token_usage"])})


def _sum(amounts: Sequence[Decimal | None]) -> Decimal | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known, Decimal(0)) if known else None
