"""`tenant budget`: what a tenant's calls may cost in a month, and in a run."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from audit.control.models import ControlAuditLog
from config.base.command import Refusal
from runs.models import Spending
from tenants.errors import InvalidBudget, TenantNotActive, UnknownTenant
from tenants.lifecycle.budget import tenant_budget_set
from tenants.models import Tenant, TenantStatus
from tenants.routing.context import current_tenant, tenant_context


def entries(tenant: Tenant) -> list[dict[str, object] | None]:
    found = ControlAuditLog.objects.filter(resource_id=tenant.id, action="tenant.budget").order_by("id")
    return list(found.values_list("details", flat=True))


def run(tenant: Tenant, *arguments: str) -> str:
    out = StringIO()
    call_command("tenant_budget", "--tenant-id", tenant.id, *arguments, stdout=out)
    return out.getvalue()


def test_a_budget_is_set_changed_and_taken_back_and_known_in_the_tenants_context(tenant: Tenant) -> None:
    for amount in (Decimal("50"), Decimal("0.000001"), None):
        tenant_budget_set(tenant_id=tenant.id, budgets={"monthly_budget_usd": amount})
        with tenant_context(tenant):
            assert (current_tenant().monthly_budget_usd, current_tenant().run_budget_usd) == (amount, None)
    assert entries(tenant) == [
        {"monthly_budget_usd": {"from": None, "to": "50"}},
        {"monthly_budget_usd": {"from": "50", "to": "0.000001"}},
        {"monthly_budget_usd": {"from": "0.000001", "to": None}},
    ]


@pytest.mark.parametrize("amount", ["0", "-1", "0.0000001", "100000000.01", "1e400", "NaN", "Infinity"])
def test_what_is_no_budget_is_refused(amount: str, tenant: Tenant) -> None:
    for name in ("monthly_budget_usd", "run_budget_usd"):
        with pytest.raises(InvalidBudget) as refusal:
            tenant_budget_set(tenant_id=tenant.id, budgets={name: Decimal(amount)})
        assert refusal.value.code == "budget_invalid"
        assert (
            "a budget must be an amount in USD above 0 and up to 100000000, with at most six" in refusal.value.message
        )
        assert "no budget" in refusal.value.hint
    assert entries(tenant) == []


def test_only_tenants_that_may_run_have_a_budget(tenant: Tenant) -> None:
    budgets = {"run_budget_usd": Decimal(1)}
    with pytest.raises(UnknownTenant, match="There is no tenant 'no one'"):
        tenant_budget_set(tenant_id="no one", budgets=budgets)
    for status in (TenantStatus.DELETING, TenantStatus.DELETED):
        Tenant.objects.filter(pk=tenant.pk).update(status=status)
        with pytest.raises(TenantNotActive, match=f"is {status}"):
            tenant_budget_set(tenant_id=tenant.id, budgets=budgets)
    Tenant.objects.filter(pk=tenant.pk).update(status=TenantStatus.ACTIVE)


def test_the_command_says_what_holds_now(tenant: Tenant) -> None:
    assert run(tenant, "--monthly", "49.5") == (
        f"Tenant {tenant.id} has a budget of USD 49.50 a month.\n"
        "The tenant's runs have no budget unless their configuration has one.\n"
    )
    assert json.loads(run(tenant, "--per-run", "2", "--json")) == {
        "id": tenant.id,
        "monthly_budget_usd": 49.5,
        "run_budget_usd": 2.0,
    }
    assert run(tenant, "--monthly", "none").splitlines() == [
        f"Tenant {tenant.id} has no monthly budget.",
        "Each of the tenant's runs has a budget of USD 2.00, unless its configuration has another.",
    ]


def test_the_command_shows_what_the_month_has_cost(tenant: Tenant) -> None:
    month = datetime.now(UTC).date().replace(day=1)
    nothing = json.loads(run(tenant, "--json"))
    assert (nothing["spent_usd"], nothing["unpriced_calls"], nothing["warned_at"]) == (0, 0, None)
    with tenant_context(tenant) as alias:
        Spending.objects.using(alias).create(
            month=month, spent_usd="1.5", reserved_usd="0.25", possible_usd="0.125", unpriced_calls=2
        )
    assert run(tenant).splitlines()[2:] == [
        f"In {month:%Y-%m} (UTC): USD 1.50 spent, USD 0.25 reserved for calls in progress, and up to USD 0.125"
        " possibly spent by calls whose exact cost is unknown.",
        "2 calls lack a price, so these amounts may be too low.",
    ]


@pytest.mark.parametrize("given", ["nan", "1_000", "$5", "", "５"])
def test_the_command_refuses_what_is_no_amount(given: str, tenant: Tenant) -> None:
    with pytest.raises(CommandError, match="is not an amount in USD such as"):
        run(tenant, "--monthly", given)
    with pytest.raises(Refusal, match="must be an amount in USD above 0"):
        run(tenant, "--monthly", "0")
