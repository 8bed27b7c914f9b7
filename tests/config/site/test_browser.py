"""The admin in a real browser: its scripts, styles, dialogs and the one login for all sites.

`ADMIN_SCREENSHOTS=<folder>` saves a screenshot of every visited page.
"""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from prompts.models import Prompt
from runs.models import Run, RunStatus
from tenants.models import Erasure, Tenant, TenantGroup, TenantStatus
from tenants.routing.context import tenant_context
from tests.runs.services.states import complete_by_hand
from tests.support.browser.chromium import CHROMIUM, DRIVER, Browser
from tests.support.staff import PASSWORD, Filled, run_in_review

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH"),
    pytest.mark.skipif(DRIVER is None, reason="no chromedriver on the PATH"),
]


def _log_in(browser: Browser, user: User) -> None:
    browser.fill(username=user.username, password=PASSWORD)
    browser.click("button[type=submit]")


def test_one_login_leads_to_the_tenants_site_that_was_asked_for(
    chromium: Browser, superuser: User, filled: Filled
) -> None:
    chromium.open(filled.site)
    assert chromium.path == f"/admin/login/?next={filled.site}"
    _log_in(chromium, superuser)
    chromium.wait_for_text(f"Tenant {filled.tenant.id}")
    assert chromium.path == filled.site
    assert chromium.driver.title.startswith(f"{filled.tenant.id}:")
    assert chromium.complaints() == []


def test_the_pages_of_groups_and_a_tenants_history_work_in_a_browser(staffed: Browser, filled: Filled) -> None:
    """`frame/test_accessibility.py` opens most of these pages and all others, with more checks."""
    group = TenantGroup.objects.create(name=f"group-{uuid4().hex[:8]}")
    pages = [
        *(f"/admin/tenants/tenantgroup/{group.pk}/{page}" for page in ("change/", "delete/")),
        f"/admin/tenants/tenant/{filled.tenant.id}/history/",
        "/admin/tenants/tenant/?status__exact=active&o=1",
    ]
    for page in pages:
        assert "Control" in staffed.open(page), page
        assert staffed.complaints() == [], page
    group.delete()


def test_no_script_that_a_page_was_made_to_contain_is_run(staffed: Browser) -> None:
    staffed.open("/admin/")
    planted = """
        const [script, link] = [document.createElement("script"), document.createElement("a")];
        script.textContent = "document.title = 'run'";
        link.setAttribute("onclick", "document.title = 'clicked'");
        document.body.append(script, link);
        link.click();
        const other = document.createElement("script");
        other.src = "https://elsewhere.example/x.js";
        document.body.append(other);
        return document.title;
    """
    assert staffed.driver.execute_script(planted) not in ("run", "clicked")
    staffed.wait_for_complaints(3)


def test_a_run_is_started_by_its_form(staffed: Browser, filled: Filled) -> None:
    staffed.open(filled.site)
    staffed.click_link("Start a run")
    staffed.fill(keyword="コーヒー ミル 手動", **{"input-audience": "beginners"})
    staffed.click("#content button[type=submit]")
    staffed.wait_for_text("The run was started.")
    staffed.page()
    with tenant_context(filled.tenant):
        run = Run.objects.get(status=RunStatus.PENDING)
    assert staffed.path == f"{filled.site}runs/run/{run.pk}/change/"
    assert staffed.complaints() == []


def test_a_tenant_is_suspended_and_resumed_by_dialogs(staffed: Browser, tenant: Tenant) -> None:
    staffed.open(f"/admin/tenants/tenant/{tenant.id}/change/")
    staffed.click_link("Suspend")
    staffed.wait_for_text("Suspend this tenant?")
    staffed.page()
    staffed.confirm()
    staffed.wait_for_text("is suspended.")
    tenant.refresh_from_db()
    assert tenant.status == TenantStatus.SUSPENDED
    staffed.click_link("Resume")
    staffed.wait_for_text("Resume this tenant?")
    staffed.confirm()
    staffed.wait_for_text("is active again.")
    tenant.refresh_from_db()
    assert tenant.status == TenantStatus.ACTIVE
    assert staffed.complaints() == []


def test_a_run_is_sent_back_approved_and_cancelled_by_dialogs(staffed: Browser, tenant: Tenant) -> None:
    run = run_in_review(tenant)
    staffed.open(f"/t/{tenant.id}/admin/runs/run/{run.pk}/change/")
    staffed.wait_for_text("Waiting for a review before step outline")
    staffed.click_link("Send back")
    staffed.wait_for_text("Send this run back?")
    staffed.confirm()
    staffed.wait_for_text("This field is required")
    staffed.fill(comment="もっと短く。")
    staffed.page()
    staffed.confirm()
    staffed.wait_for_text("The run was sent back.")
    complete_by_hand(tenant, run, "keyword_analysis")
    staffed.open(staffed.path)
    staffed.click_link("Approve")
    staffed.wait_for_text("Approve the next step?")
    staffed.confirm()
    staffed.wait_for_text("The run was approved.")
    staffed.click_link("Cancel run")
    staffed.wait_for_text("Cancel this run?")
    staffed.confirm()
    staffed.wait_for_text("The run was cancelled.")
    staffed.page()
    with tenant_context(tenant):
        assert Run.objects.get(pk=run.pk).status == RunStatus.FAILED
    assert staffed.complaints() == []


def test_selected_runs_are_cancelled_after_a_confirmation(staffed: Browser, tenant: Tenant) -> None:
    run = run_in_review(tenant)
    staffed.open(f"/t/{tenant.id}/admin/runs/run/")
    staffed.click("input.action-select")
    Select(staffed.find("select[name=action]")).select_by_value("cancel_selected")
    staffed.page()
    staffed.click("#changelist-actions button[name=index]")
    staffed.wait_for_text("Cancel 1 run?")
    staffed.page()
    staffed.click("#content button[type=submit]")
    staffed.wait_for_text("1 run was cancelled.")
    with tenant_context(tenant):
        assert Run.objects.get(pk=run.pk).status == RunStatus.FAILED
    assert staffed.complaints() == []


def test_a_prompt_is_copied_edited_activated_and_rolled_back(staffed: Browser, tenant: Tenant) -> None:
    with tenant_context(tenant):
        active = Prompt.objects.get(step="outline", is_active=True)
    staffed.open(f"/t/{tenant.id}/admin/prompts/prompt/{active.pk}/change/")
    staffed.click_link("New version from this")
    staffed.wait_for_text("stays a draft")
    staffed.page()
    staffed.driver.find_element(By.NAME, "content").send_keys("\nMind the keyword.")
    staffed.fill(note="The keyword was missing.")
    staffed.click("#content button[type=submit]")
    staffed.wait_for_text("was created")
    staffed.page()
    staffed.driver.find_element(By.NAME, "content").send_keys("\nTyped, not saved.")
    staffed.click("[name=prompts_prompt_save_and_activate]")
    staffed.wait_for_text("is now active.")
    with tenant_context(tenant):
        made = Prompt.objects.get(step="outline", is_active=True)
    assert made.version == active.version + 1
    assert "Mind the keyword." in made.content and "Typed, not saved." in made.content
    staffed.open(f"/t/{tenant.id}/admin/prompts/prompt/{made.pk}/change/")
    staffed.click_link("Compare")
    staffed.wait_for_text("+Typed, not saved.")
    staffed.page()
    staffed.open(f"/t/{tenant.id}/admin/prompts/prompt/{made.pk}/change/")
    staffed.click_link("Roll back")
    staffed.wait_for_text("Return to the version that was active before?")
    staffed.confirm()
    staffed.wait_for_text(f"{active} is now active.")
    assert staffed.complaints() == []


def test_a_prompt_is_tried_with_values_of_ones_own(staffed: Browser, tenant: Tenant) -> None:
    with tenant_context(tenant):
        active = Prompt.objects.get(step="keyword_analysis", is_active=True)
    staffed.open(f"/t/{tenant.id}/admin/prompts/prompt/{active.pk}/change/")
    staffed.click_link("Try")
    staffed.wait_for_text("The preview costs nothing.")
    staffed.fill(inputs='{"keyword": "coffee grinder", "language": "en"}')
    staffed.click("#content button[name=preview]")
    staffed.wait_for_text("Limits for a call to")
    assert "coffee grinder" in staffed.page()
    assert staffed.complaints() == []


def test_the_switcher_leads_to_another_tenant(staffed: Browser, tenant: Tenant) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(name=f"000 {tenant.name}")
    staffed.open("/admin/")
    staffed.click("#seo-gen-switcher")
    staffed.wait_for_text(f"000 {tenant.name}")
    staffed.page()
    staffed.click_link(f"000 {tenant.name}")
    staffed.wait_for_text(f"Tenant {tenant.id}")
    assert staffed.path == f"/t/{tenant.id}/admin/"


def test_a_certificate_is_printed_black_on_white_with_nothing_around_it(staffed: Browser, erased: Erasure) -> None:
    media = {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    staffed.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    staffed.open(f"/admin/tenants/erasure/{erased.pk}/change/")
    shown = {
        name: staffed.driver.find_element(By.CSS_SELECTOR, name).is_displayed()
        for name in (".seo-gen-certificate-signature", "#nav-sidebar", ".seo-gen-certificate-actions")
    }
    assert shown == {
        ".seo-gen-certificate-signature": True,
        "#nav-sidebar": False,
        ".seo-gen-certificate-actions": False,
    }
    text = staffed.driver.find_element(By.CSS_SELECTOR, ".seo-gen-certificate td")
    paper = staffed.driver.find_element(By.ID, "main")
    assert text.value_of_css_property("color") == "rgba(0, 0, 0, 1)"
    assert paper.value_of_css_property("background-color") == "rgba(255, 255, 255, 1)"
    assert staffed.complaints() == []
