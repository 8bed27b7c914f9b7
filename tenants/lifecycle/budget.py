"""Set a tenant's budgets: the most that its calls may cost in a month, and in a run."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from django.db import transaction

from audit.log.entries import record
from config.base.databases import CONTROL
from tenants.errors import InvalidBudget, SettingsChanged, TenantNotActive
from tenants.lifecycle.limit import ENDED
from tenants.models import Tenant
from tenants.selectors import tenant_get

# US dollars.
MAX_BUDGET = Decimal(100_000_000)
# Prices have six decimal places too.
SMALLEST = Decimal("0.000001")
# The columns that hold a budget.
BUDGETS = ("monthly_budget_usd", "run_budget_usd")


def tenant_budget_set(
    *, tenant_id: str, budgets: Mapping[str, Decimal | None], expected: Mapping[str, object] | None = None
) -> Tenant:
    """Set the given budgets, keyed by column name (None: no budget), and return the tenant.

    Calls in progress are not interrupted; a worker uses the new budgets when it next enters the tenant's context. A run
    whose configuration has a budget of its own keeps that. Raises `InvalidBudget`, `UnknownTenant`, `TenantNotActive`
    if the tenant is being or was deleted, or `SettingsChanged` if `expected` is given and the present budgets differ
    from it.
    """
    for amount in budgets.values():
        _require_amount(tenant_id, amount)
    tenant_get(tenant_id)
    with transaction.atomic(using=CONTROL):
        tenant = Tenant.objects.using(CONTROL).select_for_update().get(pk=tenant_id)
        if tenant.status in ENDED:
            raise TenantNotActive(tenant_id, tenant.status)
        if expected is not None and any(getattr(tenant, name) != amount for name, amount in expected.items()):
            raise SettingsChanged(tenant_id)
        details: dict[str, object] = {}
        for name, amount in budgets.items():
            details[name] = {"from": _text(getattr(tenant, name)), "to": _text(amount)}
            setattr(tenant, name, amount)
        tenant.save(using=CONTROL, update_fields=list(budgets))
        record(using=CONTROL, action="tenant.budget", resource_type="tenant", resource_id=tenant_id, details=details)
    return tenant


def _require_amount(tenant_id: str, amount: Decimal | None) -> None:
    if amount is None:
        return
    if not amount.is_finite() or not 0 < amount <= MAX_BUDGET or amount % SMALLEST:
        raise InvalidBudget(tenant_id, amount, MAX_BUDGET)


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount.normalize():f}"
