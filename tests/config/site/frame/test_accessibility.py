"""The pages of both sites in a real browser: one visit to a page serves all checks.

No page has an unexpected browser error, scrolls sideways, cuts off text, misaligns numbers or leaves texts in English;
axe-core finds nothing, in light and dark mode.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client

from tenants.models import Approval, Backup, OperationRequest, Restore, Tenant
from tests.support.browser.axe import SCRIPT, violations
from tests.support.browser.chromium import CHROMIUM, DRIVER, Browser
from tests.support.browser.layout import misfits, untranslated
from tests.support.browser.rows import filled_pages
from tests.support.browser.visits import visits

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="no Chromium or chromedriver on the PATH"),
]
# With these, it is the same page with other rows.
SAME = ("costs/?", "?from=", "?series=")
# A list without a result is checked without its filters, which would cover it.
EMPTY = ("=nothing-has-this-name", "=nobody")
OPEN_FILTERS = "document.querySelector('#changelist button[aria-expanded]')?.click()"
# One page of each template, to be opened in English too: its words are longer, and break elsewhere.
ENGLISH = (
    *("/admin/", "/admin/tenants/tenant/tenant/change/", "/admin/tenants/tenant/tenant/erase/", "/admin/account/"),
    *("/admin/llm/stepllmdefault/", "/admin/llm/llmmodel/import_prices/", "/admin/llm/stepllmdefault/final/delete/"),
    *("/admin/tenants/operationrequest/failed_operation/change/", "/admin/tenants/approval/asked_approval/change/"),
    *("/admin/tenants/tenantschema/", "/admin/auth/user/add/", "/admin/tenants/erasure/erasure/change/"),
    *("/t/tenant/admin/", "/t/tenant/admin/runs/run/?q=nothing-has-this-name", "/t/tenant/admin/costs/"),
    *("/t/tenant/admin/runs/run/run/change/", "/t/tenant/admin/runs/run/reviews/", "/t/tenant/admin/runs/run/add/"),
    *("/t/tenant/admin/runs/run/run/texts/", "/t/tenant/admin/prompts/prompt/draft/compare/", "prompt_conflict"),
)
# Of pages that are as they should be, the browser says that they are refused or do not exist, and that it did not ask
# before it left a form with something typed in it.
EXPECTED = ("the server responded with a status of", "'beforeunload' confirmation panel")


@pytest.fixture
def no_other_rows() -> None:
    """Delete rows that other tests left in some lists, because their texts may be in English."""
    for model in (OperationRequest, Approval, Restore, Backup):
        model.objects.all().delete()


@pytest.mark.usefixtures("no_other_rows")
def test_every_page_works_and_keeps_no_one_out(
    staffed: Browser, browser: Client, superuser: User, tenant: Tenant
) -> None:
    [(session, cookie)] = browser.cookies.items()
    found: list[str] = []
    staffed.set_cookie(settings.LANGUAGE_COOKIE_NAME, "ja")
    with filled_pages(tenant, superuser) as known:
        for name, visit in visits(known):
            staffed.set_cookie(session, cookie.value)
            visit(staffed)
            found += [f"{name}: {one}" for one in (*untranslated(staffed), *_wrong(staffed, name))]
        staffed.set_cookie(settings.LANGUAGE_COOKIE_NAME, "en")
        english = {name: visit for name, visit in visits(known) if name in ENGLISH}
        for name, visit in english.items():
            staffed.set_cookie(session, cookie.value)
            visit(staffed)
            found += [f"{name} in English: {one}" for one in _wrong(staffed, name)]
    assert {*english} == {*ENGLISH}
    assert found == [], "\n".join(found)
    if not SCRIPT.exists():
        pytest.skip("The pages were opened, but axe-core is not installed (make install-dev).")


def _wrong(browser: Browser, name: str) -> Iterator[str]:
    yield from (line for line in browser.complaints() if not any(one in line for one in EXPECTED))
    yield from misfits(browser)
    if not any(one in name for one in SAME) and SCRIPT.exists():
        if "?" in name and not any(one in name for one in EMPTY):
            browser.driver.execute_script(OPEN_FILTERS)
        yield from violations(browser)
        # Drop the complaints that the check itself caused.
        browser.complaints()
