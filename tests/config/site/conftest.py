"""One server and one Chromium for all browser tests of a process: starting them takes longer than most of the tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from django.test import Client

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

    from tests.support.browser.chromium import Browser


@pytest.fixture(scope="package")
def server() -> Iterator[str]:
    from tests.support.browser.chromium import serving

    with serving() as address:
        yield address


@pytest.fixture(scope="package")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    from tests.support.browser.chromium import chrome

    with chrome(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def chromium(driver: Chrome, server: str) -> Iterator[Browser]:
    """The shared browser, without cookies or storage from earlier tests."""
    from tests.support.browser.chromium import Browser

    browser = Browser(driver, server)
    yield browser
    browser.forget()


@pytest.fixture
def staffed(chromium: Browser, browser: Client) -> Browser:
    """The browser of a superuser who has logged in."""
    [(name, cookie)] = browser.cookies.items()
    chromium.set_cookie(name, cookie.value)
    return chromium
