"""The overviews warn of budgets that are nearly used up; the page of a run that was paused says why."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from django.contrib.auth.models import User
from django.test import Client
from django.utils.html import escape

from runs.models import PauseCause, Run, RunStatus, Spending, Step, StepStatus
from tenants.lifecycle.budget import tenant_budget_set
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.config.site.forms import Browser
from tests.runs.costs.made import add_call, add_step, make_old, summarize


def browser_of(user: User) -> Client:
    client = Browser()
    client.force_login(user)
    return client


def set_budget(tenant: Tenant, amount: str | None) -> None:
    budget = None if amount is None else Decimal(amount)
    tenant_budget_set(tenant_id=tenant.pk, budgets={"monthly_budget_usd": budget})


def test_the_control_overview_names_tenants_with_little_left(tenant: Tenant, superuser: User) -> None:
    make_old(tenant)
    now = datetime.now(UTC).isoformat()
    # 0.52 and at most 2.50 US dollars.
    add_call(tenant, add_step(tenant), now, {"input": 1000, "output": 10})
    add_call(tenant, add_step(tenant), now, None)
    assert summarize(tenant)
    link = f'href="/admin/tenants/tenant/{tenant.pk}/change/"'
    for budget, is_named in (("3.7", True), ("3.8", False), (None, False)):
        set_budget(tenant, budget)
        page = browser_of(superuser).get("/admin/").content.decode()
        assert (link in page) == is_named
        assert not is_named or ("Budgets running low" in page and "3.02" in page)


def test_the_tenants_overview_shows_what_is_used(tenant: Tenant, superuser: User) -> None:
    browser, url = browser_of(superuser), f"/t/{tenant.pk}/admin/"
    assert "budget" not in browser.get(url).content.decode()
    set_budget(tenant, "10")
    assert " / 10.00</span>" in browser.get(url).content.decode()
    with tenant_context(tenant) as alias:
        Spending.objects.using(alias).create(
            month=datetime.now(UTC).date().replace(day=1), spent_usd="5", reserved_usd="2", possible_usd="0.9"
        )
    page = browser.get(url).content.decode()
    assert ">7.90<" in page and " / 10.00</span>" in page and "Running low" not in page
    with tenant_context(tenant) as alias:
        Spending.objects.using(alias).update(spent_usd="5.1")
    assert "Running low" in browser.get(url).content.decode()


def test_a_runs_page_says_why_its_budget_paused_it(tenant: Tenant, superuser: User) -> None:
    with tenant_context(tenant) as alias:
        run = Run.objects.using(alias).create(
            status=RunStatus.PAUSED,
            current_step="draft",
            config={"keyword": "tea", "language": "en"},
            pause_cause=PauseCause.BUDGET,
            paused_by="pipeline",
            paused_at=datetime(2026, 11, 24, 3, tzinfo=UTC),
        )
        Step.objects.using(alias).create(
            run=run, step="draft", status=StepStatus.PENDING, error_message="It's reached.", started_at=None
        )
    page = browser_of(superuser).get(f"/t/{tenant.pk}/admin/runs/run/{run.pk}/change/").content.decode()
    assert escape("since 2026-11-24 12:00 JST: It's reached.") in page
