"""A headless Chromium and a real server for it: shared by the tests of a process, since both take a long time to start.

`ADMIN_SCREENSHOTS=<folder>` saves a screenshot of every visited page.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support import expected_conditions as expect
from selenium.webdriver.support.ui import WebDriverWait

from tests.support.browser.error_pages import with_error_pages

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
WAIT_S = 60
PICTURES = os.environ.get("ADMIN_SCREENSHOTS")
# Submitted by script, without the browser's own check of required fields.
SEND = """
const forms = ["#content form", "#login-form", "form"].flatMap((css) => [...document.querySelectorAll(css)]);
const form = document.querySelector(arguments[0] || null)
    || forms.find((one) => one.method === "post" && !/logout|language/.test(one.action));
HTMLFormElement.prototype.submit.call(form);
"""


class QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing: requests are not part of a test's output."""


class Browser:
    """A headless Chromium and the server that it visits."""

    def __init__(self, driver: Chrome, server: str) -> None:
        self.driver = driver
        self.server = server
        # A page that follows something replaces parts of itself while the driver reads them.
        self._wait = WebDriverWait(driver, WAIT_S, 0.05, [StaleElementReferenceException])

    def open(self, path: str) -> str:
        """Visit a page and return its HTML."""
        self.driver.get(self.server + path)
        return self.page()

    def page(self) -> str:
        self._wait.until(lambda driver: driver.execute_script("return document.readyState") == "complete")
        if PICTURES:
            self._take_picture(Path(PICTURES))
        return self.driver.page_source

    def _take_picture(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^a-z0-9]+", "-", self.path.lower()).strip("-") or "root"
        self.driver.save_screenshot(str(folder / f"{name}.png"))

    @property
    def path(self) -> str:
        return self.driver.current_url.removeprefix(self.server)

    def fill(self, **fields: str) -> None:
        for name, text in fields.items():
            field = self.driver.find_element(By.NAME, name)
            field.clear()
            field.send_keys(text)

    def click(self, css: str) -> None:
        self.find(css).click()

    def click_link(self, text: str) -> None:
        self._still(By.PARTIAL_LINK_TEXT, text).click()

    def find(self, css: str) -> WebElement:
        return self._still(By.CSS_SELECTOR, css)

    def _still(self, by: str, value: str) -> WebElement:
        """Return the element once it can be clicked and has stopped moving; menus and dialogs unfold."""
        places: list[object] = []

        def stands(driver: Chrome) -> WebElement | Literal[False]:
            element = expect.element_to_be_clickable((by, value))(driver)
            places.append(element and element.rect)
            return element if places[-2:-1] == places[-1:] else False

        return self._wait.until(stands)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        self._wait.until(lambda _driver: condition())

    def wait_for_text(self, text: str) -> None:
        self._wait.until(expect.text_to_be_present_in_element((By.TAG_NAME, "body"), text))

    def wait_for_element(self, css: str) -> None:
        """Wait until the page has a matching element, even if that element keeps being replaced."""
        self._wait.until(lambda driver: driver.execute_script("return !!document.querySelector(arguments[0])", css))

    def wait_until_gone(self, element: WebElement) -> None:
        self._wait.until(expect.staleness_of(element))

    def confirm(self) -> None:
        """Submit the open dialog."""
        self.click("#dialog button[type=submit]")

    def send(self, form: str = "") -> None:
        """Submit the page's form, or the one that the CSS selector `form` matches, as it is; wait for the next page."""
        before = self.driver.find_element(By.TAG_NAME, "html")
        self.driver.execute_script(SEND, form)
        self.wait_until_gone(before)
        self.page()

    def wait_for_complaints(self, number: int) -> None:
        """Wait until the Content Security Policy has refused at least this many things."""
        seen: list[str] = []

        def refused(_driver: object) -> bool:
            seen.extend(line for line in self.complaints() if "Content Security Policy" in line)
            return len(seen) >= number

        self._wait.until(refused)

    def complaints(self) -> list[str]:
        """Return the errors in the browser's log since the last call: those of scripts, styles and requests."""
        entries: list[dict[str, str]] = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def prefer(self, scheme: Literal["light", "dark"]) -> None:
        """Show pages as for a person who prefers this color scheme."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})

    def resize(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def set_cookie(self, name: str, value: str) -> None:
        self.driver.execute_cdp_cmd(
            "Network.setCookie", {"name": name, "value": value, "url": self.server, "httpOnly": True}
        )

    def remove_cookie(self, name: str) -> None:
        self.driver.execute_cdp_cmd("Network.deleteCookies", {"name": name, "url": self.server})

    def forget(self) -> None:
        """Leave the page, remove what it stored, and reset the color scheme, the window's size and the log."""
        # Whatever the page has begun must end before the next test.
        self.driver.get("about:blank")
        self.driver.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": self.server, "storageTypes": "all"})
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
        self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        self.complaints()


@contextmanager
def serving() -> Iterator[str]:
    """Serve the project's WSGI application on a free port; yield its address."""
    httpd = ThreadedWSGIServer(("127.0.0.1", 0), QuietHandler)
    httpd.set_app(with_error_pages(get_wsgi_application()))
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}"
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


@contextmanager
def chrome(profile: Path) -> Iterator[Chrome]:
    """Start a headless Chromium with the profile in this folder; yield its driver, and quit it afterwards."""
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (
        *("headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-dev-shm-usage", "lang=en"),
        *("disable-extensions", "disable-software-rasterizer", "disable-features=SpareRendererForSitePerProcess"),
        *("disable-background-networking", "disable-component-update", "disable-sync", "window-size=1440,1000"),
        f"user-data-dir={profile}",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "SEVERE"})
    # With both paths given, Selenium looks for nothing and downloads nothing.
    driver = Chrome(options=options, service=ChromeService(str(DRIVER)))
    try:
        yield driver
    finally:
        driver.quit()
