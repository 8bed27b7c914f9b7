"""Limits of providers, models and tenants in the admin, and tenants' budgets: what is refused, and what is audited."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from html import unescape
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.test import Client

from audit.control.models import ControlAuditLog
from llm.admin.providers import LIMITS
from llm.models import LLMModel, LLMProvider
from tenants.models import Tenant, TenantStatus
from tests.config.site.forms import HIDDEN, Browser, Fields, form_in, hidden_fields
from tests.support.staff import give_role, make_user

REFUSED = "A limit must be at least 1. Leave the field empty for no limit."


@pytest.fixture
def page(request: pytest.FixtureRequest) -> Iterator[tuple[str, LLMProvider | LLMModel]]:
    """The URL of a provider's or a model's page, and the row."""
    provider = LLMProvider.objects.get(pk="gemini")
    model = LLMModel.objects.create(provider=provider, model_name=f"m-{uuid4().hex[:8]}", model_class="pro")
    rows: dict[str, LLMProvider | LLMModel] = {"llmprovider": provider, "llmmodel": model}
    row = rows[request.param]
    yield f"/admin/llm/{request.param}/{row.pk}/change/", row
    model.delete()
    provider.save()


both = pytest.mark.parametrize("page", ["llmprovider", "llmmodel"], indirect=True)


def filled(browser: Client, url: str, row: object, **changes: str) -> Fields:
    html = browser.get(url).content.decode()
    return {
        **form_in(html, f"{type(row).__name__.lower()}_form"),
        **{name: [value] for name, value in changes.items()},
    }


def saved(row: LLMProvider | LLMModel) -> list[int | None]:
    fresh = type(row).objects.get(pk=row.pk)
    return [getattr(fresh, name) for name in LIMITS]


@both
def test_limits_are_set_and_taken_back(
    page: tuple[str, LLMProvider | LLMModel], browser: Client, superuser: User
) -> None:
    url, row = page
    set_to = filled(browser, url, row, max_concurrent_calls="1", requests_per_minute="60", tokens_per_minute="90000")
    assert browser.post(url, set_to).status_code == 302
    assert saved(row) == [1, 60, 90000]
    emptied = filled(browser, url, row, **dict.fromkeys(LIMITS, ""))
    assert browser.post(url, emptied).status_code == 302
    assert saved(row) == [None, None, None]
    made = ControlAuditLog.objects.filter(user_id=f"staff:{superuser.username}", resource_id=str(row.pk))
    changes = [entry.details for entry in made.filter(action__endswith=".change").order_by("id")]
    assert [sorted(details["fields"]) for details in changes if details] == [sorted(LIMITS)] * 2


@both
@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("value", ["0", "-3"])
def test_a_limit_below_1_is_refused_with_one_sentence(
    value: str, name: str, page: tuple[str, LLMProvider | LLMModel], browser: Client
) -> None:
    url, row = page
    response = browser.post(url, filled(browser, url, row, **{name: value}))
    assert response.status_code == 200
    assert response.context["errors"] == [[REFUSED]]
    assert saved(row) == [None, None, None]


@both
@pytest.mark.parametrize("value", ["many", "1.5", "99999999999"])
def test_what_is_no_number_is_refused(value: str, page: tuple[str, LLMProvider | LLMModel], browser: Client) -> None:
    url, row = page
    assert browser.post(url, filled(browser, url, row, requests_per_minute=value)).status_code == 200
    assert saved(row) == [None, None, None]


def test_a_tenants_limit_is_set_in_a_dialog(tenant: Tenant, browser: Client, superuser: User) -> None:
    url = f"/admin/tenants/tenant/{tenant.id}"
    assert "48 (default)" in browser.get(f"{url}/change/").content.decode()
    assert "If empty, the default (48) applies." in browser.get(f"{url}/limit/").content.decode()
    assert browser.post(f"{url}/limit/", {"_form_submitted": "on", "steps": "7"}).status_code == 302
    assert 'value="7"' in browser.get(f"{url}/limit/").content.decode()
    assert browser.post(f"{url}/limit/", {"_form_submitted": "on", "steps": ""}).status_code == 302
    entries = ControlAuditLog.objects.filter(action="tenant.limit", resource_id=tenant.id).order_by("id")
    assert [(entry.user_id, entry.details) for entry in entries] == [
        (f"staff:{superuser.username}", {"from": None, "to": 7}),
        (f"staff:{superuser.username}", {"from": 7, "to": None}),
    ]


def test_a_tenants_budgets_are_set_in_a_dialog(tenant: Tenant, browser: Client) -> None:
    url = f"/admin/tenants/tenant/{tenant.id}"
    given = {"_form_submitted": "on", "monthly_budget_usd": "49.50", "run_budget_usd": ""}
    assert browser.post(f"{url}/budget/", given).status_code == 302
    assert 'value="49.5"' in browser.get(f"{url}/budget/").content.decode()
    assert "49.5" in browser.get(f"{url}/change/").content.decode()
    assert browser.post(f"{url}/budget/", {**given, "monthly_budget_usd": "", "run_budget_usd": "2"}).status_code == 302
    row = Tenant.objects.get(pk=tenant.id)
    assert (row.monthly_budget_usd, row.run_budget_usd) == (None, Decimal(2))
    entry = ControlAuditLog.objects.filter(action="tenant.budget", resource_id=tenant.id).latest("id")
    assert entry.details == {
        "monthly_budget_usd": {"from": "49.5", "to": None},
        "run_budget_usd": {"from": None, "to": "2"},
    }


@pytest.mark.parametrize("value", ["0", "-1", "0.0000001"])
def test_a_budget_of_nothing_is_refused(value: str, tenant: Tenant, browser: Client) -> None:
    for name in ("monthly_budget_usd", "run_budget_usd"):
        given = {"_form_submitted": "on", "monthly_budget_usd": "", "run_budget_usd": "", name: value}
        answer = browser.post(f"/admin/tenants/tenant/{tenant.id}/budget/", given)
        assert "A budget must be above 0. Leave the field empty for no budget." in unescape(answer.content.decode())
    assert Tenant.objects.get(pk=tenant.id).run_budget_usd is None


@pytest.mark.parametrize("value", ["0", "-1"])
def test_a_tenants_limit_below_1_is_refused(value: str, tenant: Tenant, browser: Client) -> None:
    answer = browser.post(f"/admin/tenants/tenant/{tenant.id}/limit/", {"_form_submitted": "on", "steps": value})
    assert "A limit must be at least 1. Leave the field empty for the default." in unescape(answer.content.decode())
    assert Tenant.objects.get(pk=tenant.id).max_concurrent_steps is None


def test_who_may_not_change_tenants_may_not_limit_them(tenant: Tenant) -> None:
    viewer, client = make_user(is_superuser=False), Browser()
    give_role(viewer, "viewer")
    client.force_login(viewer)
    answer = client.post(f"/admin/tenants/tenant/{tenant.id}/limit/", {"_form_submitted": "on", "steps": "1"})
    assert answer.status_code == 403
    assert Tenant.objects.get(pk=tenant.id).max_concurrent_steps is None
    viewer.delete()


def test_the_limit_of_a_tenant_that_was_deleted_is_not_offered(tenant: Tenant, browser: Client) -> None:
    url = f"/admin/tenants/tenant/{tenant.id}"
    assert "/limit/" in browser.get(f"{url}/change/").content.decode()
    opened_before = hidden_fields(browser.get(f"{url}/limit/").content.decode(), HIDDEN)
    Tenant.objects.filter(pk=tenant.pk).update(status=TenantStatus.DELETED)
    assert "/limit/" not in browser.get(f"{url}/change/").content.decode()
    answer = browser.post(f"{url}/limit/", {"_form_submitted": "on", "steps": "1", **opened_before}, follow=True)
    assert f"The status of tenant {tenant.id} is deleted." in unescape(answer.content.decode())
    Tenant.objects.filter(pk=tenant.pk).update(status=TenantStatus.ACTIVE)
