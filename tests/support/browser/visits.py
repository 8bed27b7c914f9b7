"""Visits to pages that only a form, another login or a failure leads to: each brings the browser to one page.

A visit may log out, so the caller sets the session's cookie again before the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.support.browser.pages import Known, control_pages, tenant_pages
from tests.support.browser.sign_in_visits import SIGN_IN_VISITS, log_in

if TYPE_CHECKING:
    from tests.support.browser.chromium import Browser

Visit = Callable[["Browser", Known], None]


def operation_refused(browser: Browser, known: Known) -> None:
    browser.open(f"/admin/tenants/tenant/{known.ids['tenant']}/erase/")
    browser.fill(typed_id="another")
    browser.send()


def user_refused(browser: Browser, known: Known) -> None:
    browser.open("/admin/auth/user/add/")
    browser.send()


def tenant_refused(browser: Browser, known: Known) -> None:
    browser.open("/admin/tenants/tenant/add/")
    browser.send()


def provider_refused(browser: Browser, known: Known) -> None:
    browser.open("/admin/llm/llmprovider/add/")
    browser.send()


def run_refused(browser: Browser, known: Known) -> None:
    browser.open(f"{known.site}runs/run/add/")
    browser.send()


def series_refused(browser: Browser, known: Known) -> None:
    browser.open(f"{known.site}runs/run/series/")
    browser.send()


def series_preview(browser: Browser, known: Known) -> None:
    browser.open(f"{known.site}runs/run/series/")
    browser.fill(text="番茶 効能\nジャスミン茶 香り\n緑茶 健康効果\n")
    browser.send()


def bulk_confirmation(browser: Browser, known: Known) -> None:
    browser.open(f"{known.site}runs/run/?q=")
    browser.driver.execute_script(
        "document.querySelectorAll('input.action-select').forEach(one => one.checked = true);"
        "document.querySelector('select[name=action]').value = 'cancel_selected'"
    )
    browser.send("#changelist-form")


def suspend_dialog(browser: Browser, known: Known) -> None:
    _tenant_dialog(browser, known, "suspend")


def limit_dialog(browser: Browser, known: Known) -> None:
    _tenant_dialog(browser, known, "limit")


def budget_dialog(browser: Browser, known: Known) -> None:
    _tenant_dialog(browser, known, "budget")


def send_back_dialog(browser: Browser, known: Known) -> None:
    browser.open(f"{known.site}runs/run/{known.ids['review_run']}/change/")
    browser.driver.execute_script('document.querySelector(\'[hx-get$="send_back/"], a[href$="send_back/"]\').click()')
    browser.find("#dialog button[type=submit]")


def prompt_refused(browser: Browser, known: Known) -> None:
    browser.open(f"{known.site}prompts/prompt/{known.ids['draft']}/change/")
    browser.fill(content="{{ nobody_declared_this }}")
    browser.send()


def prompt_conflict(browser: Browser, known: Known) -> None:
    """Save a draft that someone else has saved in the meantime."""
    from prompts.models import Prompt
    from tenants.routing.context import tenant_context

    browser.open(f"{known.site}prompts/prompt/{known.ids['draft']}/change/")
    browser.fill(note="My own note")
    with tenant_context(known.ids["tenant"]) as alias:
        draft = Prompt.objects.using(alias).get(pk=known.ids["draft"])
        note = (draft.note or "") + "+"
        Prompt.objects.using(alias).filter(pk=draft.pk).update(note=note, content=draft.content + "\nTheir line.\n")
    browser.send()


def open_tenant_form(browser: Browser, known: Known) -> None:
    """Open the form for temporary access as someone who does not see all tenants."""
    log_in(browser, known.ids["operator"])
    browser.open("/admin/tenants/temporaryaccess/add/")


def palette(browser: Browser, known: Known) -> None:
    search_for(browser, "/admin/", known.ids["tenant"], known.ids["tenant"])


def palette_of_a_tenant(browser: Browser, known: Known) -> None:
    search_for(browser, known.site, "緑茶", known.ids["run"])


def palette_without_result(browser: Browser, known: Known) -> None:
    search_for(browser, "/admin/", "nothing-has-this-name")


def server_error_page(browser: Browser, known: Known) -> None:
    browser.open("/error-page/500/")


def unavailable_page(browser: Browser, known: Known) -> None:
    browser.open("/error-page/503/")


def forbidden_page(browser: Browser, known: Known) -> None:
    browser.open("/error-page/403/")


def bad_request_page(browser: Browser, known: Known) -> None:
    browser.open("/error-page/400/")


def unknown_host_page(browser: Browser, known: Known) -> None:
    browser.open("/error-page/host/")


def expired_form(browser: Browser, known: Known) -> None:
    browser.open("/error-page/csrf/")


VISITS: dict[str, Visit] = {
    one.__name__: one
    for one in (
        *SIGN_IN_VISITS,
        *(operation_refused, user_refused, tenant_refused, provider_refused, run_refused),
        *(
            series_refused,
            series_preview,
            bulk_confirmation,
            suspend_dialog,
            limit_dialog,
            budget_dialog,
            send_back_dialog,
        ),
        *(prompt_refused, prompt_conflict, open_tenant_form, palette, palette_of_a_tenant),
        *(palette_without_result,),
        *(server_error_page, unavailable_page, forbidden_page, bad_request_page),
        *(unknown_host_page, expired_form),
    )
}


def visits(known: Known) -> Iterator[tuple[str, Callable[[Browser], object]]]:
    """Yield each page as a name that is the same every time, and a function that brings a browser to the page.

    The caller sets the session's cookie before each visit.
    """
    names = Known({name: name for name in known.ids})
    pages = [
        (one, path) for of in (control_pages, tenant_pages) for one, path in zip(of(names), of(known), strict=True)
    ]
    for name, path in pages:
        yield name, lambda browser, path=path: browser.open(path)  # type: ignore[misc]
    for name, visit in VISITS.items():
        yield name, lambda browser, visit=visit: visit(browser, known)  # type: ignore[misc]


def _tenant_dialog(browser: Browser, known: Known, name: str) -> None:
    browser.open(f"/admin/tenants/tenant/{known.ids['tenant']}/change/")
    browser.driver.execute_script(f"document.querySelector('[hx-get$=\"/{name}/\"]').click()")
    browser.find("#dialog button[type=submit]")


def search_for(browser: Browser, page: str, text: str, part: str = "") -> None:
    """Type `text` into the search of a page, and wait for a link with `part` in its address or for the note that
    nothing was found.
    """
    browser.open(page)
    ActionChains(browser.driver).key_down(Keys.CONTROL).send_keys("k").key_up(Keys.CONTROL).perform()
    browser.find(".seo-gen-palette input").send_keys(text)
    browser.wait_for_element(f'.seo-gen-palette [href*="{part}"], .seo-gen-palette-empty')
