"""axe-core finds nothing on any page of both sites, in light and dark; none scrolls sideways or stays in English."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client

from tenants.models import Tenant
from tests.support.browser.axe import SCRIPT, violations
from tests.support.browser.chromium import CHROMIUM, DRIVER, Browser
from tests.support.browser.layout import sideways, untranslated
from tests.support.browser.rows import filled_pages
from tests.support.browser.visits import visits

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="no Chromium or chromedriver on the PATH"),
    pytest.mark.skipif(not SCRIPT.exists(), reason="axe-core is not installed (make install-dev)"),
]


def test_no_page_keeps_anyone_out(staffed: Browser, browser: Client, superuser: User, tenant: Tenant) -> None:
    [(session, cookie)] = browser.cookies.items()
    found: list[str] = []
    staffed.set_cookie(settings.LANGUAGE_COOKIE_NAME, "ja")
    with filled_pages(tenant, superuser) as known:
        for name, visit in visits(known):
            staffed.set_cookie(session, cookie.value)
            visit(staffed)
            # With other rows, the same page has the same structure.
            wrong = [*untranslated(staffed), *sideways(staffed), *([] if "?" in name else violations(staffed))]
            found += [f"{name}: {one}" for one in wrong]
    assert found == [], "\n".join(found)
