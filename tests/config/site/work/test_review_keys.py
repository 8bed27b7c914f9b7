"""The queue of reviews is worked through with the keyboard alone."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from runs.models import Run, RunStatus
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.support.browser.chromium import CHROMIUM, DRIVER, Browser
from tests.support.staff import run_in_review

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="no Chromium or chromedriver on the PATH"),
]


def press(browser: Browser, key: str) -> None:
    browser.driver.switch_to.active_element.send_keys(key)


def shown(browser: Browser) -> str:
    return browser.driver.find_element(By.NAME, "run").get_attribute("value") or ""


def test_the_next_run_is_opened_and_approved_by_keys(staffed: Browser, tenant: Tenant) -> None:
    first, second = run_in_review(tenant), run_in_review(tenant)
    staffed.open(f"/t/{tenant.id}/admin/runs/run/reviews/")
    assert shown(staffed) == str(first.pk)
    press(staffed, "?")
    staffed.wait_for_text("write a comment")
    press(staffed, Keys.ESCAPE)
    press(staffed, "j")
    staffed.wait_until(lambda: shown(staffed) == str(second.pk))
    press(staffed, "a")
    press(staffed, Keys.ENTER)
    staffed.wait_for_text("The run was approved.")
    staffed.page()
    assert shown(staffed) == str(first.pk)
    with tenant_context(tenant):
        statuses = dict(Run.objects.values_list("pk", "status"))
    assert statuses == {first.pk: RunStatus.PAUSED, second.pk: RunStatus.RUNNING}
    assert staffed.complaints() == []


def test_a_comment_is_written_and_sent_by_keys(staffed: Browser, tenant: Tenant) -> None:
    run = run_in_review(tenant)
    staffed.open(f"/t/{tenant.id}/admin/runs/run/reviews/")
    press(staffed, "s")
    # Letters are text now, not keys.
    press(staffed, "jak")
    press(staffed, Keys.CONTROL + Keys.ENTER)
    staffed.wait_for_text("The run was sent back.")
    with tenant_context(tenant):
        assert Run.objects.get(pk=run.pk).status == RunStatus.RUNNING
    assert staffed.complaints() == []
