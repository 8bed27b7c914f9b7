"""Read a tenant's daily costs from its calls and from the control database, and replace those stored in the latter."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from datetime import date, datetime
from decimal import Decimal
from typing import Any, LiteralString

from django.db import connections, transaction

from audit.log.safe_search_path import catalog_only
from config.base.databases import CONTROL
from runs.errors import TenantReplaced
from runs.summaries.models import DailyCost
from tenants.models import Tenant
from tenants.routing.pool import version_of

# A tenant that was copied from another one also has the other's calls, which were not paid for again.
DAYS: LiteralString = """
WITH chosen AS (
    SELECT (call.started_at AT TIME ZONE 'UTC')::date AS day, step.step, call.llm_provider, call.llm_model,
           call.status, call.token_usage, call.cost_usd,
           -- As in the trigger of migration 0007.
           CASE WHEN call.status = 'unknown' THEN call.bound_usd
                WHEN call.is_unpriced THEN greatest(call.bound_usd - coalesce(call.cost_usd, 0), 0)
           END AS possible_usd,
           call.is_unpriced OR call.bound_usd IS NULL AND call.cost_usd IS NULL AS lacks_price
      FROM public.calls AS call JOIN public.steps AS step ON step.id = call.step_id
     WHERE call.status <> 'open' AND call.started_at >= %(since)s
       AND (%(days)s::date[] IS NULL OR EXISTS (
               SELECT 1 FROM unnest(%(days)s::date[]) AS one (day)
                WHERE call.started_at >= one.day::timestamp AT TIME ZONE 'UTC'
                  AND call.started_at < (one.day + 1)::timestamp AT TIME ZONE 'UTC'))
), counted AS (
    SELECT day, step, llm_provider, llm_model, unit, sum(tokens::numeric)::bigint AS tokens
      FROM chosen, jsonb_each(CASE jsonb_typeof(token_usage) WHEN 'object' THEN token_usage ELSE '{}' END)
                   AS one (unit, tokens)
     WHERE jsonb_typeof(tokens) = 'number'
     GROUP BY day, step, llm_provider, llm_model, unit
), used AS (
    SELECT day, step, llm_provider, llm_model, jsonb_object_agg(unit, tokens) AS token_usage
      FROM counted
     GROUP BY day, step, llm_provider, llm_model
), summed AS (
    SELECT day, step, llm_provider, llm_model, count(*) AS calls, count(*) FILTER (WHERE status = 'unknown') AS unknown,
           count(*) FILTER (WHERE lacks_price) AS unpriced, sum(cost_usd) AS cost,
           nullif(sum(possible_usd), 0) AS possible
      FROM chosen
     GROUP BY day, step, llm_provider, llm_model
)
SELECT day, step, llm_provider, llm_model, calls, unknown, unpriced, coalesce(token_usage, '{}')::text, cost, possible
  FROM summed LEFT JOIN used USING (day, step, llm_provider, llm_model)
"""


@dataclass(frozen=True)
class Key:
    """The columns that identify a row of `DailyCost`, together with the tenant."""

    day: date
    step: str
    provider: str
    model: str


@dataclass(frozen=True)
class Costs:
    """The columns of `DailyCost` that contain counts and amounts."""

    calls: int
    unknown_calls: int
    unpriced_calls: int
    token_usage: dict[str, int]
    cost_usd: Decimal | None
    possible_usd: Decimal | None


Days = dict[Key, Costs]
KEYS = tuple(field.name for field in fields(Key))
COLUMNS = tuple(field.name for field in fields(Costs))


def read_days(alias: str, *, since: datetime, days: Collection[date] | None = None) -> Days:
    """Return the costs of the tenant's calls that began on these days (UTC; None: any), but not before `since`.

    Calls in progress are left out.
    """
    with catalog_only(connections[alias]), connections[alias].cursor() as cursor:
        cursor.execute(DAYS, {"since": since, "days": None if days is None else list(days)})
        return {Key(*row[:4]): _costs(row[4:]) for row in cursor.fetchall()}


def present_days(tenant_id: str, days: Collection[date] | None = None) -> Days:
    """Return the control database's costs of the tenant's calls on these days (None: all days)."""
    found = DailyCost.objects.using(CONTROL).filter(tenant_id=tenant_id)
    found = found if days is None else found.filter(day__in=days)
    rows = found.values_list(*KEYS, *COLUMNS)
    return {Key(*row[: len(KEYS)]): Costs(*row[len(KEYS) :]) for row in rows}


def replace_days(tenant: Tenant, days: Collection[date], wanted: Days) -> None:
    """Replace all of the tenant's rows for these days with `wanted`. The caller has locked it (`locked_tenant`)."""
    DailyCost.objects.using(CONTROL).filter(tenant_id=tenant.pk, day__in=days).delete()
    DailyCost.objects.using(CONTROL).bulk_create(
        DailyCost(
            tenant_id=tenant.pk,
            **dict(zip(KEYS, astuple(key), strict=True)),
            **dict(zip(COLUMNS, astuple(costs), strict=True)),
        )
        for key, costs in wanted.items()
    )


@contextmanager
def locked_tenant(alias: str, tenant_id: str) -> Iterator[Tenant]:
    """Lock the tenant's row and yield it; the block is one transaction of the control database.

    Costs that are both read and written inside the block never replace newer ones. Raises `TenantReplaced` if the
    tenant has been suspended, restored or otherwise changed since the connection behind `alias` was configured.
    """
    version = version_of(alias)
    with transaction.atomic(using=CONTROL):
        locked = Tenant.objects.using(CONTROL).select_for_update(no_key=True)
        tenant = locked.only("connection_version", "created_at").get(pk=tenant_id)
        if version not in (None, tenant.connection_version):
            raise TenantReplaced(tenant_id)
        yield tenant


def _costs(row: Sequence[Any]) -> Costs:
    named = dict(zip(COLUMNS, row, strict=True))
    return Costs(**{**named, "token_usage": json.loads(named["token_usage"])})
