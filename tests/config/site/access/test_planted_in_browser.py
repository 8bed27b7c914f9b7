"""Pages full of planted markup in a real browser: none of it runs, and the security policy refuses nothing.

`test_injection.py` reads the HTML of every page; here the pages' scripts have processed it, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from prompts.models import Prompt
from runs.models import RunStatus, StepOverride
from runs.summaries.models import RunSummary
from tenants.models import OperationRequest, RequestKind, RequestStatus, Tenant, TenantGroup
from tenants.routing.context import tenant_context
from tests.config.site.access.planted import EVALUATED, TEXT, add_call, plant
from tests.support.browser.chromium import CHROMIUM, DRIVER, Browser
from tests.support.staff import Filled, make_user

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="no Chromium or chromedriver on the PATH"),
]
# What the planted scripts call.
WATCH = "window.zq = () => { window.acted = location.href; };"
ACTED = "return window.acted || document.querySelectorAll('zq-tag').length || null"
PLANT = "document.getElementById('content').insertAdjacentHTML('beforeend', arguments[0])"
CONTROL_PAGES = (
    *("/admin/", "/admin/tenants/tenant/", "/admin/tenants/tenant/{tenant}/change/"),
    *("/admin/tenants/operationrequest/{operation}/change/", "/admin/tenants/tenantgroup/{group}/change/"),
    "/admin/auth/user/{user}/change/",
)
TENANT_PAGES = (
    *("", "runs/run/", "runs/run/{run}/change/", "runs/run/{run}/texts/", "runs/step/{step}/change/", "runs/artifact/"),
    *("prompts/prompt/{prompt}/change/", "audit/auditlog/"),
)


@pytest.fixture
def planted(filled: Filled) -> Iterator[dict[str, object]]:
    """Plant the text in all of the tenant's rows, and in rows about it; yield the ids in the pages' addresses."""
    with tenant_context(filled.tenant) as alias:
        add_call(filled)
        StepOverride.objects.using(alias).create(step="draft", output_limit=100)
        plant(alias, of_tenant=True)
        prompt = Prompt.objects.using(alias).order_by("pk")[0]
    name = filled.tenant.name
    Tenant.objects.filter(pk=filled.tenant.pk).update(name=TEXT)
    group = TenantGroup.objects.create(name=TEXT)
    group.tenants.add(filled.tenant)
    user = make_user(is_superuser=False)
    User.objects.filter(pk=user.pk).update(first_name=TEXT[:150], last_name=TEXT[-150:], email=TEXT[:254])
    operation = OperationRequest.objects.create(
        kind=RequestKind.EXPORT,
        status=RequestStatus.FAILED,
        tenant_id=filled.tenant.pk,
        arguments={"output": TEXT, "recipient": TEXT},
        requested_by=TEXT,
        requester_id=user.pk,
        reason=TEXT,
        error=TEXT,
        due_at=timezone.now(),
        started_at=timezone.now(),
        finished_at=timezone.now(),
    )
    failed = RunSummary.objects.create(
        tenant=filled.tenant,
        run_id=uuid4(),
        status=RunStatus.FAILED,
        current_step=TEXT,
        error_step=TEXT,
        error=TEXT,
        is_truncated=False,
        created_at=timezone.now(),
        updated_at=timezone.now(),
    )
    yield {
        "tenant": filled.tenant.pk,
        "run": filled.run.pk,
        "step": filled.step.pk,
        "prompt": prompt.pk,
        "group": group.pk,
        "user": user.pk,
        "operation": operation.pk,
    }
    for row in (failed, operation, group, user):
        row.delete()
    Tenant.objects.filter(pk=filled.tenant.pk).update(name=name)


def test_nothing_that_was_planted_runs(staffed: Browser, filled: Filled, planted: dict[str, object]) -> None:
    watch = staffed.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
    try:
        for page in (*CONTROL_PAGES, *(filled.site + page for page in TENANT_PAGES)):
            address = page.format(**planted)
            html = staffed.open(address)
            assert "zq-tag" in html and EVALUATED not in html, address
            assert staffed.driver.execute_script(ACTED) is None, address
            assert staffed.complaints() == [], address
        # As markup, the same text runs, and the policy refuses a part of it.
        staffed.driver.execute_script(PLANT, TEXT)
        staffed.wait_until(lambda: str(staffed.driver.execute_script(ACTED)).startswith("http"))
        staffed.wait_for_complaints(1)
    finally:
        staffed.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", watch)
