"""Move the steps that wait for a model whose breaker is open to their fallbacks. This is part of the sweep."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from django.db import connections, transaction
from django.db.models import F, TextField, Value
from django.db.models.functions import Concat

from runs.models import WORKING, Run, Step, StepStatus
from runs.steps.fallbacks.reroute import step_reroute
from runs.steps.wake import route_of

# How many steps of one tenant a sweep moves; the next sweep continues.
BATCH = 200
# Locked rows are skipped anyway; this keeps a locked table from delaying the sweep of the other tenants.
LOCK_TIMEOUT = "1s"


def steps_leave(*, alias: str, tenant_id: str, open_routes: Collection[str]) -> int:
    """Move one tenant's steps that wait for a route in `open_routes` to their fallbacks; return how many were moved.

    Steps that wait for a retry are among them. Each is moved in a transaction of its own, at most `BATCH` in a call.
    """
    if not open_routes:
        return 0
    waiting = (
        Step.objects.using(alias)
        .filter(status=StepStatus.PENDING, fallbacks__isnull=False, run__status__in=WORKING)
        .filter(run__current_step=F("step"))
        .exclude(fallbacks=[])
        .alias(route=Concat("llm_provider", Value("/"), "llm_model", output_field=TextField()))
        .filter(route__in=sorted(open_routes))
        .order_by("id")
    )
    found = list(waiting.values_list("run_id", "step")[:BATCH])
    return sum(_leave(alias, tenant_id, run_id, step, open_routes) for run_id, step in found)


def _leave(alias: str, tenant_id: str, run_id: UUID, step: str, open_routes: Collection[str]) -> bool:
    """Move the step if it is still waiting and neither it nor its run is locked; return whether it was moved."""
    with transaction.atomic(using=alias):
        with connections[alias].cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        runs = Run.objects.using(alias).filter(pk=run_id, status__in=WORKING, current_step=step)
        if runs.select_for_update(skip_locked=True).values_list("pk").first() is None:
            return False
        steps = Step.objects.using(alias).filter(run_id=run_id, step=step, status=StepStatus.PENDING)
        row = steps.select_for_update(skip_locked=True).first()
        if row is None or route_of(row.llm_provider, row.llm_model) not in open_routes:
            return False
        return step_reroute(alias=alias, tenant_id=tenant_id, row=row, reason="breaker_open", open_routes=open_routes)
