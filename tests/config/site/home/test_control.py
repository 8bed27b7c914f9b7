"""The first page of the control site shows what needs attention, and queries no tenant's database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from config.stack.process import free_port
from llm.models import LLMModel
from runs.models import PauseCause, RunStatus
from runs.summaries.models import DailyCost, RunSummary
from runs.workers_seen import worker_seen
from tenants.models import OperationRequest, OperationStatus, Tenant, TenantOperation
from tenants.routing.pool import pool
from tests.support.staff import give_role

QUERIES_MAX = 12
LATER = datetime(2999, 1, 1, tzinfo=UTC)


@pytest.fixture
def troubled(tenant: Tenant) -> Iterator[Tenant]:
    """A tenant that needs attention for several reasons, with an unreachable database; a model also retires soon."""
    url = re.sub(r":\d+/", f":{free_port()}/", tenant.database_url)
    before = {name: getattr(tenant, name) for name in ("database_url", "created_at", "schema_drift", "schema_version")}
    Tenant.objects.filter(pk=tenant.pk).update(
        database_url=url,
        created_at=timezone.now() - timedelta(days=100),
        schema_drift=["column extra"],
        monthly_budget_usd=Decimal(10),
    )
    _summary(tenant, RunStatus.FAILED, error="No key was given.", error_step="draft")
    _summary(tenant, RunStatus.PAUSED, pause_cause=PauseCause.BUDGET)
    _summary(tenant, RunStatus.PAUSED, pause_cause=PauseCause.REVIEW)
    today = datetime.now(UTC).date()
    cost = {"calls": 1, "unknown_calls": 0, "unpriced_calls": 0, "token_usage": {}, "cost_usd": Decimal("9.87")}
    DailyCost.objects.create(tenant=tenant, day=today, step="draft", provider="p", model="m", **cost)
    operation = TenantOperation.objects.create(tenant_id=tenant.pk, kind="rotate", user_id="staff:someone")
    model = LLMModel.objects.filter(is_active=True).order_by("pk")[0]
    LLMModel.objects.filter(pk=model.pk).update(retires_on=today + timedelta(days=3))
    yield tenant
    LLMModel.objects.filter(pk=model.pk).update(retires_on=model.retires_on)
    TenantOperation.objects.filter(pk=operation.pk).update(status=OperationStatus.COMPLETED)
    RunSummary.objects.filter(tenant=tenant).delete()
    DailyCost.objects.filter(tenant=tenant).delete()
    Tenant.objects.filter(pk=tenant.pk).update(**before, monthly_budget_usd=None)


def _summary(tenant: Tenant, status: RunStatus, **more: object) -> None:
    now = timezone.now()
    RunSummary.objects.create(
        tenant=tenant,
        run_id=uuid4(),
        status=status,
        current_step="draft",
        is_truncated=False,
        created_at=now,
        updated_at=now,
        **more,
    )


def test_everything_that_needs_attention_has_a_row_that_leads_to_it(browser: Client, troubled: Tenant) -> None:
    worker_seen()
    browser.get("/admin/")
    opened = pool.count()
    with CaptureQueriesContext(connection) as queries:
        page = browser.get("/admin/")
    assert len(queries) <= QUERIES_MAX
    assert pool.count() == opened
    sections = {section.key: section for section in page.context["sections"]}
    mine = {
        key: [row for row in section.rows if troubled.pk in (row.tenant, row.text)] for key, section in sections.items()
    }
    runs = [
        f"/t/{troubled.pk}/admin/runs/run/{one.run_id}/change/" for one in RunSummary.objects.filter(tenant=troubled)
    ]
    assert sorted(row.url for row in (*mine["stopped"], *mine["reviews"])) == sorted(runs)
    assert {row.detail for row in mine["stopped"]} == {
        "draft: No key was given.",
        "The budget does not allow the next call.",
    }
    assert [row.url for row in mine["operations"]] == [f"/admin/tenants/tenant/{troubled.pk}/change/"]
    assert [row.url for row in mine["schema"]] == [f"/admin/tenants/tenantschema/{troubled.pk}/change/"]
    assert [row.detail for row in mine["budgets"]] == ["9.87 of 10.00 USD"]
    assert [row.detail for row in mine["backups"]] == ["There is no completed backup."]
    assert len(sections["models"].rows) == 1
    spending = page.context["spending"]
    assert spending.today >= Decimal("9.87") and spending.month >= spending.today
    assert page.context["queue"]["worker"] == "A worker was seen within the last minute."
    text = page.content.decode()
    assert all(row.url in text for section in sections.values() for row in section.rows)


@pytest.mark.parametrize(
    ("kind", "recorded_as", "status"),
    [
        *(("restore", "restore", status) for status in ("requested", "running", "unfinished", "done")),
        ("undo", "restore undo", "running"),
        ("copy", "clone", "running"),
    ],
)
def test_requested_operations_stand_there_once_until_they_are_over(
    browser: Client, tenant: Tenant, kind: str, recorded_as: str, status: str
) -> None:
    request = OperationRequest.objects.create(
        kind=kind, status=status, tenant_id=tenant.pk, requested_by="staff:ann", due_at=LATER, lease_until=LATER
    )
    begun = TenantOperation.objects.create(tenant_id=tenant.pk, kind=recorded_as, user_id="staff:ann")
    try:
        page = browser.get("/admin/")
    finally:
        OperationRequest.objects.filter(pk=request.pk).delete()
        TenantOperation.objects.filter(pk=begun.pk).update(status=OperationStatus.COMPLETED)
    sections = {section.key: section for section in page.context["sections"]}
    rows = [row for row in sections["operations"].rows if row.tenant == tenant.pk]
    of_request = f"/admin/tenants/operationrequest/{request.pk}/change/"
    of_tenant = f"/admin/tenants/tenant/{tenant.pk}/change/"
    assert [row.url for row in rows] == [of_tenant if status == "done" else of_request]


def test_a_copy_of_prompts_stands_there_for_those_who_see_all_of_its_tenants(
    staff: User, tenant_pair: tuple[Tenant, Tenant]
) -> None:
    source, target = tenant_pair
    request = OperationRequest.objects.create(
        kind="prompt_copy",
        status="unfinished",
        tenant_id=source.pk,
        requested_by="staff:ann",
        arguments={"tenants": [target.pk]},
        error=f"Tenant {target.pk} was not changed.",
    )
    give_role(staff, "operator", source)
    client = Client()
    client.force_login(staff)
    hidden = client.get("/admin/").content.decode()
    give_role(staff, "viewer", target)
    shown = client.get("/admin/").content.decode()
    request.delete()
    assert f"Tenant {target.pk}" not in hidden and str(request.pk) not in hidden
    assert f"Tenant {target.pk} was not changed." in shown


def test_a_page_without_trouble_says_so_in_words(browser: Client) -> None:
    page = browser.get("/admin/")
    text = page.content.decode()
    for section in page.context["sections"]:
        assert section.rows or section.empty in text, section.key


def test_staff_see_only_the_parts_that_they_may_see(staff: User, troubled: Tenant) -> None:
    client = Client()
    client.force_login(staff)
    page = client.get("/admin/")
    assert page.context["sections"] == []
    assert "An administrator can give you a role." in page.content.decode()
    give_role(staff, "viewer", troubled)
    page = client.get("/admin/")
    keys = {section.key for section in page.context["sections"]}
    # Its backups are about the tenant, and models about the installation.
    assert "backups" in keys and "models" not in keys
    assert "spending" in page.context
