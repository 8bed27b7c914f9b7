"""Keep the control database's daily costs up to date with the calls.

1. A transaction begins or ends a call. Its row is then marked as outdated: a new row by default, a changed one by the
   table's trigger (`runs` migration 0007_daily_costs).
2. The sweep replaces the daily costs of the days on which such calls began, once the calls have ended.
3. The marks are removed, except from calls that have changed again.

If a sweep dies in between, the marks remain, and the next sweep repeats the work.
"""

from __future__ import annotations

from datetime import UTC, date
from typing import LiteralString

from django.db import connections
from django.db.models import QuerySet

from runs.costs.days import locked_tenant, read_days, replace_days
from runs.errors import TenantReplaced
from runs.models import Call, CallStatus

# How many calls of one tenant are handled together, and in how many batches before the sweep moves to other tenants.
BATCH = 2000
BATCHES = 10

# A call never returns to an earlier status, so the same status means that the call has not changed.
NOTE_SUMMARIZED: LiteralString = """
UPDATE public.calls SET is_summarized = true
 WHERE id IN (
       SELECT call.id FROM public.calls AS call
         JOIN unnest(%s::integer[], %s::text[]) AS seen (id, status) ON call.id = seen.id AND call.status = seen.status
          FOR UPDATE OF call SKIP LOCKED)
"""


def outdated_calls(alias: str) -> QuerySet[Call]:
    """Return the ended calls that the daily costs do not contain in their current state."""
    return Call.objects.using(alias).filter(is_summarized=False).exclude(status=CallStatus.OPEN)


def costs_summarize(*, alias: str, tenant_id: str) -> bool:
    """Bring the tenant's daily costs up to date; return False if some days may remain for the next sweep."""
    for _batch in range(BATCHES):
        calls = list(outdated_calls(alias).order_by("id").values_list("id", "status", "started_at")[:BATCH])
        if not calls:
            return True
        days = {started_at.astimezone(UTC).date() for _id, _status, started_at in calls}
        try:
            _replace(alias, tenant_id, days)
        except TenantReplaced:
            return False
        with connections[alias].cursor() as cursor:
            cursor.execute(NOTE_SUMMARIZED, [[call[0] for call in calls], [call[1] for call in calls]])
            if cursor.rowcount < len(calls):
                return False
    return False


def _replace(alias: str, tenant_id: str, days: set[date]) -> None:
    with locked_tenant(alias, tenant_id) as tenant:
        replace_days(tenant, days, read_days(alias, since=tenant.created_at, days=days))
