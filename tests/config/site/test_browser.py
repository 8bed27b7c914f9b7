"""The admin in a real browser: its scripts, styles, dialogs and the one login for all sites.

`ADMIN_SCREENSHOTS=<folder>` keeps a picture of every page that is visited.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group, User
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support import expected_conditions as expect
from selenium.webdriver.support.ui import WebDriverWait

from prompts.models import Prompt
from runs.models import Run, RunStatus
from tenants.models import Erasure, Tenant, TenantStatus
from tenants.routing.context import tenant_context
from tests.config.site.test_pages import CONTROL_PAGES, TENANT_PAGES
from tests.support.staff import PASSWORD, Filled

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
WAIT_S = 15

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH"),
    pytest.mark.skipif(DRIVER is None, reason="no chromedriver on the PATH"),
]


class QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Requests are not what a test prints."""


class Browser:
    """A headless Chromium and the server that it visits."""

    def __init__(self, driver: Chrome, server: str, pictures: Path) -> None:
        self.driver = driver
        self.server = server
        self._pictures = pictures
        self._wait = WebDriverWait(driver, WAIT_S)

    def open(self, path: str) -> str:
        """Visit a page, take its picture, and return its HTML."""
        self.driver.get(self.server + path)
        return self.page()

    def page(self) -> str:
        self._wait.until(lambda driver: driver.execute_script("return document.readyState") == "complete")
        name = re.sub(r"[^a-z0-9]+", "-", self.path.lower()).strip("-") or "root"
        self.driver.save_screenshot(str(self._pictures / f"{name}.png"))
        return self.driver.page_source

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
        self._wait.until(expect.element_to_be_clickable((By.PARTIAL_LINK_TEXT, text))).click()

    def find(self, css: str) -> WebElement:
        return self._wait.until(expect.element_to_be_clickable((By.CSS_SELECTOR, css)))

    def wait_for_text(self, text: str) -> None:
        self._wait.until(expect.text_to_be_present_in_element((By.TAG_NAME, "body"), text))

    def confirm(self) -> None:
        """Submit the dialog that is open."""
        self.click("#dialog button[type=submit]")

    def wait_for_complaints(self, number: int) -> None:
        """Wait until the policy has refused so much."""
        seen: list[str] = []

        def refused(_driver: object) -> bool:
            seen.extend(line for line in self.complaints() if "Content Security Policy" in line)
            return len(seen) >= number

        self._wait.until(refused)

    def complaints(self) -> list[str]:
        """Return what the page's scripts, styles and requests failed in since the last call."""
        entries: list[dict[str, str]] = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Serve the project's own WSGI application on a free port."""
    httpd = ThreadedWSGIServer(("127.0.0.1", 0), QuietHandler)
    httpd.set_app(get_wsgi_application())
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()
    thread.join()


@pytest.fixture
def chromium(server: str, tmp_path: Path) -> Iterator[Browser]:
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (
        *("headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-dev-shm-usage", "lang=en"),
        *("disable-background-networking", "disable-component-update", "disable-sync", "window-size=1440,1000"),
        f"user-data-dir={tmp_path / 'profile'}",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "SEVERE"})
    pictures = Path(os.environ.get("ADMIN_SCREENSHOTS", tmp_path))
    pictures.mkdir(parents=True, exist_ok=True)
    # With both paths given, Selenium looks for nothing and downloads nothing.
    driver = Chrome(options=options, service=ChromeService(str(DRIVER)))
    try:
        yield Browser(driver, server, pictures)
    finally:
        driver.quit()


@pytest.fixture
def staffed(chromium: Browser, superuser: User) -> Browser:
    """The browser, logged in by the form."""
    chromium.open("/admin/login/")
    _log_in(chromium, superuser)
    chromium.wait_for_text("Overview")
    return chromium


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


def test_every_page_of_the_control_site_works_in_a_browser(staffed: Browser) -> None:
    for page in CONTROL_PAGES:
        assert "Control" in staffed.open(page), page
        assert staffed.complaints() == [], page


def test_every_page_of_a_tenants_site_works_in_a_browser(staffed: Browser, filled: Filled) -> None:
    ids = {"run": filled.run.pk, "step": filled.step.pk, "artifact": filled.artifact.pk}
    for page in TENANT_PAGES:
        path = filled.site + page.format(**ids)
        assert filled.tenant.name in staffed.open(path), path
        assert staffed.complaints() == [], path


def test_the_pages_of_single_rows_and_of_refusals_work_in_a_browser(
    staffed: Browser, superuser: User, filled: Filled
) -> None:
    group = Group.objects.create(name=f"group-{uuid4().hex[:8]}")
    user, tenant = f"/admin/auth/user/{superuser.pk}/", f"/admin/tenants/tenant/{filled.tenant.id}/"
    pages = [
        *(user + page for page in ("change/", "password/", "delete/")),
        *(f"/admin/auth/group/{group.pk}/{page}" for page in ("change/", "delete/")),
        *(tenant + page for page in ("change/", "history/")),
        "/admin/audit_control/controlauditlog/1/change/",
        "/admin/tenants/tenant/?status__exact=active&o=1",
    ]
    for page in pages:
        assert "Control" in staffed.open(page), page
        assert staffed.complaints() == [], page
    for page in ("/admin/no-such-page/", "/t/no-such-tenant/admin/"):
        staffed.open(page)
        assert not [line for line in staffed.complaints() if "Content Security Policy" in line], page
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
    staffed.fill(keyword="コーヒー ミル 手動", advanced='{"audience": "beginners"}')
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


def test_a_prompt_is_copied_edited_and_activated(staffed: Browser, tenant: Tenant) -> None:
    with tenant_context(tenant):
        active = Prompt.objects.get(step="outline", is_active=True)
    staffed.open(f"/t/{tenant.id}/admin/prompts/prompt/{active.pk}/change/")
    staffed.click_link("New version from this")
    staffed.wait_for_text("It stays a draft")
    staffed.page()
    staffed.driver.find_element(By.NAME, "content").send_keys("\nMind the keyword.")
    staffed.click("#content button[type=submit]")
    staffed.wait_for_text("was created")
    staffed.click_link("Activate")
    staffed.wait_for_text("Activate this version?")
    staffed.confirm()
    staffed.wait_for_text("New runs now use")
    with tenant_context(tenant):
        made = Prompt.objects.get(step="outline", is_active=True)
    assert made.version == active.version + 1 and "Mind the keyword." in made.content
    assert staffed.complaints() == []


def test_the_switcher_leads_to_another_tenant(staffed: Browser, tenant: Tenant) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(name=f"000 {tenant.name}")
    staffed.open("/admin/")
    staffed.click("#nav-sidebar-inner .cursor-pointer")
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
