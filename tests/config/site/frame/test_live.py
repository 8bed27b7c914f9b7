"""In a real browser, the page of a run or of an operation shows its progress without a reload."""

from __future__ import annotations

import pytest

from tenants.models import OperationRequest, RequestKind, RequestStatus, Tenant
from tests.runs.services.states import complete_by_hand
from tests.support.browser.chromium import CHROMIUM, DRIVER, Browser
from tests.support.staff import run_in_review

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="no Chromium or chromedriver on the PATH"),
]


def test_a_page_follows_its_run_until_the_login_ends(staffed: Browser, tenant: Tenant) -> None:
    from runs.services.approve import run_approve

    run = run_in_review(tenant)
    staffed.open(f"/t/{tenant.id}/admin/runs/run/{run.pk}/change/")
    staffed.driver.execute_script("window.isTheSamePage = true")
    run_approve(tenant_id=tenant.id, run_id=run.pk)
    staffed.wait_for_text("Pause")
    complete_by_hand(tenant, run, "outline")
    staffed.wait_for_text("2 / 4")
    assert staffed.driver.execute_script("return window.isTheSamePage")
    staffed.driver.delete_all_cookies()
    staffed.wait_for_text("you may have to log in again")
    assert staffed.driver.execute_script("return window.isTheSamePage")
    assert staffed.complaints() == []


def test_a_page_follows_its_operation_until_the_login_ends(staffed: Browser, tenant: Tenant) -> None:
    row = OperationRequest.objects.create(
        kind=RequestKind.BACKUP, tenant_id=tenant.id, arguments={"with_storage": True}, requested_by="staff:ann"
    )
    staffed.open(f"/admin/tenants/operationrequest/{row.pk}/change/")
    staffed.driver.execute_script("window.isTheSamePage = true")
    rows = OperationRequest.objects.filter(pk=row.pk)
    rows.update(status=RequestStatus.RUNNING, step="dump", done=1, total=6)
    staffed.wait_for_text("Dumping the database")
    assert "dumping the database" in staffed.driver.execute_script(
        "return document.getElementById('live-status').textContent"
    )
    staffed.driver.delete_all_cookies()
    staffed.wait_for_text("you may have to log in again")
    assert staffed.driver.execute_script("return window.isTheSamePage")
    assert staffed.complaints() == []
    rows.update(status=RequestStatus.FAILED)
