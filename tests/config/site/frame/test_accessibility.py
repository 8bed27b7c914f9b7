"""Every page of both sites in a real browser: nothing is refused or fails in it, and axe-core finds nothing in light or
dark. Each page is opened once for both.
"""

from __future__ import annotations

from collections.abc import Iterator

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
]
# Pages that do not exist. The browser complains about their status.
MISSING = "/no-such-"


def test_every_page_works_and_keeps_no_one_out(staffed: Browser, superuser: User, filled: Filled) -> None:
    known = Known(filled.tenant.pk, str(superuser.pk), str(filled.run.pk), str(filled.step.pk), str(filled.artifact.pk))
    walks = [("Control", page) for page in control_pages(known)]
    walks += [(filled.tenant.name, page) for page in tenant_pages(known)]
    wrong = [f"{page}: {one}" for title, page in walks for one in _wrong(staffed, page, title)]
    assert wrong == []
    if not SCRIPT.exists():
        pytest.skip("The pages were opened, but axe-core is not installed (make install-dev).")


def _wrong(browser: Browser, page: str, title: str) -> Iterator[str]:
    html = browser.open(page)
    complaints = browser.complaints()
    if MISSING in page:
        complaints = [line for line in complaints if "Content Security Policy" in line]
    elif title not in html:
        yield f"{title!r} is not on the page"
    yield from complaints
    # With a query, it is the same page with other rows.
    if "?" not in page and SCRIPT.exists():
        yield from violations(browser)
        # Those of the check are not the page's.
        browser.complaints()
