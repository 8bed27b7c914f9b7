"""Bring the system to rest: resume paused runs, retry failed runs that no one cancelled, and wait for all to end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db.models import F
from django.db.models.functions import Now

from audit.models import AuditLog
from config.stack.process import wait_until
from runs.models import Call, CallStatus, Run, RunStatus, Step
from runs.turns import snapshot
from tenants.models import Tenant, TenantStatus
from tenants.routing.context import tenant_context
from tests.runs.chaos.people import AUDITED, Action, Records, change, resume_tenant

STEP_S = 0.3
# If a step's next attempt is further away than this, its run is cancelled and retried.
PATIENT_S = 1.0
BY_PEOPLE = sorted(set(AUDITED.values()))


class NoRest(Exception):
    """Runs, calls or turns did not end in time, or runs were not summarized."""


@dataclass(frozen=True)
class Restless:
    """A run that needs an action, or more time."""

    tenant_id: str
    run_id: UUID
    # What to do about it; None means wait.
    action: Action | None


def bring_to_rest(records: Records, tenant_ids: list[str], *, limit_s: float) -> None:
    """Resume all tenants and paused runs, retry failed runs, and wait until no run is left to complete.

    A run whose next attempt is far off is cancelled and retried. A run that people cancelled before, as their last
    action on it, is not retried. Raise `NoRest` on timeout.
    """
    for tenant in Tenant.objects.filter(status=TenantStatus.SUSPENDED):
        resume_tenant(tenant.pk)
    deadline = time.monotonic() + limit_s
    cancelled = {tenant_id: _cancelled(tenant_id) for tenant_id in tenant_ids}
    while restless := [one for tenant_id in tenant_ids for one in _restless(tenant_id, cancelled[tenant_id])]:
        if time.monotonic() > deadline:
            raise NoRest("\n".join(_described(one) for one in restless))
        for one in restless:
            if one.action is not None:
                change(records, one.tenant_id, one.run_id, one.action)
        time.sleep(STEP_S)


def wait_for_calls(tenant_ids: list[str], *, limit_s: float) -> None:
    """Wait until each call has ended or been marked unknown, and each summary is written; raise `NoRest` on timeout."""
    deadline = time.monotonic() + limit_s
    while left := [tenant_id for tenant_id in tenant_ids if _has_open_ends(tenant_id)]:
        if time.monotonic() > deadline:
            raise NoRest(f"open calls or runs that are not summarized: {', '.join(left)}")
        time.sleep(STEP_S)


def wait_for_turns(*, limit_s: float) -> None:
    """Wait until no turn is in flight: those of killed workers end with their leases; raise `NoRest` on timeout."""

    def are_over() -> bool:
        found = snapshot()
        return found is not None and not any(load.in_flight for load in found.tenants)

    if not wait_until(are_over, limit_s):
        raise NoRest(f"turns in flight: {snapshot()}")


def last_actions(alias: str) -> dict[str, str]:
    """Return the last action that a person took on each run, by the run's id, according to the audit log."""
    entries = AuditLog.objects.using(alias).filter(action__in=BY_PEOPLE, resource_type="run").order_by("sequence")
    return {entry.resource_id: entry.action for entry in entries if entry.user_id.startswith("operator:")}


def _cancelled(tenant_id: str) -> set[str]:
    with tenant_context(tenant_id) as alias:
        return {run_id for run_id, action in last_actions(alias).items() if action == "run.cancel"}


def _restless(tenant_id: str, cancelled: set[str]) -> Iterator[Restless]:
    with tenant_context(tenant_id) as alias:
        runs = list(Run.objects.using(alias).exclude(status=RunStatus.COMPLETED))
        late = Step.objects.using(alias).filter(
            run__current_step=F("step"), not_before__gt=Now() + timedelta(seconds=PATIENT_S)
        )
        waiting = set(late.values_list("run_id", flat=True))
    for run in runs:
        if run.status == RunStatus.PAUSED:
            yield Restless(tenant_id, run.pk, "resume")
        elif run.status != RunStatus.FAILED:
            yield Restless(tenant_id, run.pk, "cancel" if run.pk in waiting else None)
        elif str(run.pk) not in cancelled:
            yield Restless(tenant_id, run.pk, "retry")


def _has_open_ends(tenant_id: str) -> bool:
    with tenant_context(tenant_id) as alias:
        calls = Call.objects.using(alias).filter(status=CallStatus.OPEN)
        return calls.exists() or Run.objects.using(alias).filter(is_summarized=False).exists()


def _described(one: Restless) -> str:
    with tenant_context(one.tenant_id) as alias:
        run = Run.objects.using(alias).get(pk=one.run_id)
        step = Step.objects.using(alias).filter(run=run, step=run.current_step).values().first()
    return f"{one.tenant_id} {run.pk} {run.status} {run.current_step}: {step}"
