"""Compare the control database's daily costs with the calls in tenants' databases, and rebuild those that differ."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import UTC, date

from django.db import transaction

from audit.log.entries import record
from config.base.databases import CONTROL
from runs.costs.days import Days, locked_tenant, present_days, read_days, replace_days
from runs.costs.summarize import outdated_calls
from runs.summaries.reconcile import RECONCILED, reconciled
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tenants.selectors import tenant_get

logger = logging.getLogger(__name__)


@dataclass
class CostReconciliation:
    """The result for one tenant. Unless the costs were only compared, the differences have been corrected."""

    tenant_id: str
    # Days with ended calls, and of these, the ones that the sweep is about to bring up to date.
    days: int = 0
    waiting: int = 0
    # The days whose costs differ: "2026-11-24".
    differing: list[str] = field(default_factory=list)
    # Why the tenant could not be compared; "" if it was.
    problem: str = ""


def cost_reconcile(*, tenant_id: str | None, check: bool = False) -> list[CostReconciliation]:
    """Rebuild the daily costs of the given tenant, or of all active and suspended ones; with `check`, only compare.

    If all are reconciled, a tenant that cannot be reached does not stop the others; its `problem` says why. If one is
    given, its error is raised instead.
    """
    return reconciled(tenant_id, lambda tenant: _tenant_reconcile(tenant, check=check), CostReconciliation)


def costs_compare() -> list[CostReconciliation]:
    """Compare the daily costs of active and suspended tenants; log differences and problems.

    Differences are also recorded in the control log.
    """
    found = cost_reconcile(tenant_id=None, check=True)
    for one in found:
        if one.problem or one.differing:
            extra = {"action": "cost.compare", "tenant": one.tenant_id, "reason": one.problem, "days": one.differing}
            logger.warning("daily costs differ" if one.differing else "daily costs not compared", extra=extra)
        if one.differing:
            _record("cost.compare", one)
    return found


def costs_rebuild(*, alias: str, tenant_id: str, check: bool = False) -> CostReconciliation:
    """Make the tenant's daily costs match the database behind `alias`; with `check`, only compare.

    1. compare all days; 2. lock the tenant's row, so that no other process writes its costs, and compare the differing
    days once more; 3. replace those that still differ. Of these, days with calls that the sweep has not counted yet are
    reported as `waiting`, not as `differing`. The tenant's database is only read. Raises `TenantReplaced`.
    """
    created_at = tenant_get(tenant_id).created_at
    wanted, present = read_days(alias, since=created_at), present_days(tenant_id)
    found = CostReconciliation(tenant_id, days=len({key.day for key in wanted}))
    suspected = _differing(wanted, present)
    if not suspected:
        return found
    with locked_tenant(alias, tenant_id) as tenant:
        wanted = read_days(alias, since=tenant.created_at, days=suspected)
        differing = _differing(wanted, present_days(tenant_id, suspected))
        waiting = differing & _waiting(alias)
        if not check:
            replace_days(tenant, differing, {key: row for key, row in wanted.items() if key.day in differing})
    found.waiting = len(waiting)
    found.differing = [f"{day:%Y-%m-%d}" for day in sorted(differing - waiting)]
    return found


def _tenant_reconcile(tenant: Tenant, *, check: bool) -> CostReconciliation:
    with tenant_context(tenant, statuses=RECONCILED) as alias:
        found = costs_rebuild(alias=alias, tenant_id=tenant.id, check=check)
    if not check:
        _record("cost.reconcile", found)
    return found


def _differing(wanted: Days, present: Days) -> set[date]:
    return {key.day for key in wanted.keys() | present.keys() if wanted.get(key) != present.get(key)}


def _waiting(alias: str) -> set[date]:
    """Return the days (UTC) with ended calls that the sweep has not counted yet."""
    return {
        started_at.astimezone(UTC).date() for started_at in outdated_calls(alias).values_list("started_at", flat=True)
    }


def _record(action: str, found: CostReconciliation) -> None:
    details: dict[str, object] = {"days": found.days, "differing": found.differing[:100]}
    with transaction.atomic(using=CONTROL):
        record(using=CONTROL, action=action, resource_type="tenant", resource_id=found.tenant_id, details=details)
