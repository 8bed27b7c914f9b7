"""The pages of costs over time, on a tenant's site and on the control site."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from html import unescape

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from audit.control.models import ControlAuditLog
from audit.models import AuditLog
from runs.admin.cost_pages import MAX_BARS, forecast_text
from runs.costs.show import Chosen, costs_chosen, total_of
from runs.summaries.models import DailyCost
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.config.site.forms import Browser
from tests.support.staff import browser, give_role, make_user, superuser

__all__ = ["browser", "superuser"]

TODAY = datetime.now(UTC).date()
FIRST = TODAY.replace(day=1)


def cost(tenant: Tenant, day: date, step: str, model: str, amount: str | None, **more: object) -> None:
    fixed = {"calls": 2, "unknown_calls": 0, "unpriced_calls": 0, "token_usage": {"input": 1000, "output": 20}}
    DailyCost.objects.create(
        tenant=tenant,
        day=day,
        step=step,
        provider="acme",
        model=model,
        cost_usd=None if amount is None else Decimal(amount),
        **{**fixed, **more},
    )


@pytest.fixture
def spent(tenant: Tenant) -> Iterator[Tenant]:
    Tenant.objects.filter(pk=tenant.pk).update(monthly_budget_usd=Decimal(50))
    cost(tenant, TODAY, "draft", "big", "1.5")
    cost(tenant, TODAY, "final", "=SUM(A1)", None, unknown_calls=2)
    cost(tenant, FIRST - timedelta(days=1), "draft", "big", "7")
    yield tenant
    DailyCost.objects.filter(tenant=tenant).delete()


def test_the_tenants_page_has_chart_table_budget_and_forecast(spent: Tenant, browser: Browser) -> None:
    page = f"/t/{spent.pk}/admin/costs/"
    html = unescape(browser.get(page).content.decode())
    assert "at least 1.5" in html and 'data-type="bar"' in html and ">50<" in html.replace(".00", "").replace(" ", "")
    assert "counted in UTC" in html and "Monthly budget (USD)" in html and "7.0" not in html
    # The totals follow the filters.
    earlier = unescape(browser.get(page, {"first": str(FIRST - timedelta(days=3)), "step": "draft"}).content.decode())
    assert "8.5" in earlier
    by_model = unescape(browser.get(page, {"by": "model"}).content.decode())
    assert "acme/big" in by_model and "unknown" in by_model


def test_a_download_is_inert_and_audited(spent: Tenant, browser: Browser) -> None:
    page = f"/t/{spent.pk}/admin/costs/"
    response = browser.get(page, {"by": "model", "format": "csv"})
    text = response.content.decode()
    assert text.startswith("\ufeffmodel,calls") and text.count("\r\n") == 3
    assert "acme/=SUM(A1),2,2,0,1000,20,,\r\n" in text
    with tenant_context(spent) as alias:
        entry = AuditLog.objects.using(alias).get(action="cost.export")
    assert entry.details and entry.details["rows"] == 2
    assert browser.get("/admin/costs/", {"by": "tenant", "tenant": spent.pk, "format": "csv"}).status_code == 200
    assert ControlAuditLog.objects.filter(action="cost.export").exists()


def test_the_control_page_asks_no_tenants_database(spent: Tenant, browser: Browser) -> None:
    with CaptureQueriesContext(connections["default"]) as queries:
        html = browser.get("/admin/costs/", {"by": "tenant"}).content.decode()
    assert spent.pk in html and len(queries) <= 12
    assert browser.get("/admin/costs/", {"tenant": "unknown", "by": "nothing"}).status_code == 200
    nobody = make_user(is_superuser=False)
    browser.force_login(nobody)
    assert browser.get("/admin/costs/").status_code == 403
    # Someone with a role for one tenant sees its costs, and no other tenant.
    give_role(nobody, "viewer", spent)
    assert spent.pk in browser.get("/admin/costs/", {"by": "tenant"}).content.decode()
    nobody.delete()


def test_days_without_calls_are_empty_bars(spent: Tenant, browser: Browser) -> None:
    cost(spent, TODAY - timedelta(days=4), "outline", "big", "2")
    cost(spent, TODAY, "outline", "big", "1.5")
    query = {"first": str(TODAY - timedelta(days=5)), "last": str(TODAY + timedelta(days=9)), "step": "outline"}
    page = browser.get(f"/t/{spent.pk}/admin/costs/", query)
    chart = json.loads(page.context["chart"])
    assert chart["labels"] == [str(TODAY - timedelta(days=number)) for number in range(5, -1, -1)]
    amounts = chart["datasets"][0]["data"]
    assert amounts[0] == amounts[2] == 0 and amounts[1] == 2 and amounts[5] == 1.5
    # The table has only days with calls.
    assert len(page.context["rows"]) < len(amounts)
    # Each day of a long time would be too many bars.
    long = browser.get(f"/t/{spent.pk}/admin/costs/", {**query, "first": "2001-01-01"})
    assert len(json.loads(long.context["chart"])["labels"]) == MAX_BARS and long.context["is_cut"]


def test_several_tenants_have_the_sum_of_their_budgets(spent: Tenant, browser: Browser) -> None:
    other = Tenant.objects.create(id=f"other-{spent.pk}", name="other", server=spent.server, monthly_budget_usd=7)
    reader = make_user(is_superuser=False)
    for tenant in (spent, other):
        give_role(reader, "viewer", tenant)
    browser.force_login(reader)
    page = browser.get("/admin/costs/")
    assert page.context["budget"] == "57.00" and page.context["without_budget"] == 0
    assert json.loads(page.context["chart"])["datasets"][2]["data"][0] == 57
    # A line for some of the tenants would look like a limit for all.
    Tenant.objects.filter(pk=other.pk).update(monthly_budget_usd=None)
    page = browser.get("/admin/costs/")
    assert page.context["budget"] == "50.00" and page.context["without_budget"] == 1
    assert "1 tenant has no budget." in page.content.decode()
    assert len(json.loads(page.context["chart"])["datasets"]) == 1
    reader.delete()
    other.delete()


def test_chart_and_table_begin_with_the_most_expensive(spent: Tenant, browser: Browser) -> None:
    cost(spent, TODAY, "outline", "big", "9")
    page = browser.get(f"/t/{spent.id}/admin/costs/?by=step")
    labels = json.loads(page.context["chart"])["labels"]
    assert labels == [row[0] for row in page.context["rows"] if row[0] != "total"]
    assert labels == ["outline", "draft", "final"]


def test_a_forecast_continues_the_days_so_far(spent: Tenant) -> None:
    row = total_of(costs_chosen(Chosen([spent.pk], step="draft", first=FIRST), by="month"))
    assert forecast_text(row, date(2026, 11, 15)).startswith("3.0")
    unknown = total_of(costs_chosen(Chosen([spent.pk], step="final"), by="month"))
    assert forecast_text(unknown, date(2026, 11, 15)) == "unknown"
