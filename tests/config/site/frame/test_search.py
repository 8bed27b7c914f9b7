"""On both sites, the search finds only what a person may see. The tenant switcher keeps the page if it can."""

from __future__ import annotations

from uuid import uuid4

from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from runs.models import RunStatus
from runs.summaries.models import RunSummary
from tenants.models import Tenant, TenantStatus
from tenants.routing.pool import pool
from tests.support.staff import Filled


def test_the_control_site_finds_tenants_runs_by_id_and_operations(browser: Client, filled: Filled) -> None:
    run_id, now = uuid4(), timezone.now()
    RunSummary.objects.create(
        tenant=filled.tenant, run_id=run_id, status=RunStatus.FAILED, is_truncated=False, created_at=now, updated_at=now
    )
    opened = pool.count()
    by_id = browser.get("/admin/search/", {"q": str(run_id)[:13]}).content.decode()
    assert f'href="/t/{filled.tenant.pk}/admin/runs/run/{run_id}/change/"' in by_id
    by_name = browser.get("/admin/search/", {"q": filled.tenant.name.upper()}).content.decode()
    assert f'href="{filled.site}"' in by_name
    by_tenant = browser.get("/admin/search/", {"q": filled.tenant.pk}).content.decode()
    assert f'href="{filled.site}"' in by_tenant
    assert f'href="/admin/tenants/tenant/{filled.tenant.pk}/change/"' in by_tenant
    assert pool.count() == opened
    assert 'href="/admin/tenants/backup/"' in browser.get("/admin/search/", {"q": "backups"}).content.decode()
    nothing = browser.get("/admin/search/", {"q": "<b>no such</b>"}).content.decode()
    assert "Nothing was found for “&lt;b&gt;no such&lt;/b&gt;”." in nothing


def test_a_tenants_site_finds_its_runs_by_keyword(browser: Client, filled: Filled) -> None:
    found = browser.get(f"{filled.site}search/", {"q": filled.keyword.split()[1]}).content.decode()
    assert f'href="{filled.site}runs/run/{filled.run.pk}/change/"' in found
    assert (
        f'href="{filled.site}runs/run/{filled.run.pk}/change/"'
        not in browser.get("/admin/search/", {"q": filled.keyword.split()[1]}).content.decode()
    )


def test_the_switcher_keeps_the_page_and_shows_suspended_tenants(browser: Client, filled: Filled) -> None:
    asked = {"scope": "tenants", "q": filled.tenant.pk}
    for page, kept in (
        ("runs/run/", "runs/run/"),
        (f"runs/run/{filled.run.pk}/change/", "runs/run/"),
        ("", ""),
        ("nothing/here/", ""),
    ):
        found = browser.get("/admin/search/", {**asked, "from": f"/t/elsewhere/admin/{page}"}).content.decode()
        assert f'href="{filled.site}{kept}"' in found, page
    Tenant.objects.filter(pk=filled.tenant.pk).update(status=TenantStatus.SUSPENDED)
    found = browser.get("/admin/search/", asked).content.decode()
    Tenant.objects.filter(pk=filled.tenant.pk).update(status=TenantStatus.ACTIVE)
    assert f'href="/admin/tenants/tenant/{filled.tenant.pk}/change/"' in found and "suspended" in found


def test_staff_without_rights_find_no_run_and_no_operation(staff: User, filled: Filled) -> None:
    client = Client()
    client.force_login(staff)
    found = client.get(f"{filled.site}search/", {"q": filled.keyword.split()[1]}).content.decode()
    assert str(filled.run.pk) not in found
    assert "/change/" not in client.get("/admin/search/", {"q": filled.tenant.pk}).content.decode()
    assert Client().get("/admin/search/", {"q": "x"}).status_code == 302
