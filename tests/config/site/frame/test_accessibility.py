"""axe-core finds nothing on the pages of both sites, in light and dark."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from tests.support.browser.axe import SCRIPT, violations
from tests.support.browser.chromium import CHROMIUM, DRIVER, Browser
from tests.support.browser.pages import Known, control_pages, tenant_pages
from tests.support.staff import Filled

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(900),
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="no Chromium or chromedriver on the PATH"),
    pytest.mark.skipif(not SCRIPT.exists(), reason="axe-core is not installed (make install-dev)"),
]


def test_no_page_keeps_anyone_out(staffed: Browser, superuser: User, filled: Filled) -> None:
    known = Known(filled.tenant.pk, str(superuser.pk), str(filled.run.pk), str(filled.step.pk), str(filled.artifact.pk))
    found: dict[str, list[str]] = {}
    for page in (*control_pages(known), *tenant_pages(known)):
        if "?" in page:
            # The same page with other rows.
            continue
        staffed.open(page)
        if wrong := violations(staffed):
            found[page] = wrong
    assert [f"{page}: {one}" for page, wrong in found.items() for one in wrong] == []
