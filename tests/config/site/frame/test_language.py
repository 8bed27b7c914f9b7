"""Staff choose their language, which applies to the theme's own words too; times are shown with their zone."""

from __future__ import annotations

import re

from django.test import Client

from tests.support.staff import Filled

# The theme's and Django's own English.
ENGLISH = re.compile(r">\s*(Filters|Type to search|No results found|Reset filters|Cancel|Show all|Log out|Light)\s*<")


def test_a_chosen_language_stays_and_the_page_too(browser: Client, filled: Filled) -> None:
    page = f"{filled.site}runs/run/?q=x"
    answer = browser.post("/language/", {"language": "ja", "next": page})
    assert (answer.status_code, answer["Location"]) == (302, page)
    for address in (page, "/admin/"):
        assert '<html lang="ja"' in browser.get(address, headers={"accept-language": "en"}).content.decode(), address
    browser.logout()
    assert '<html lang="ja"' in _login_page_after_choosing("ja")
    assert browser.post("/language/", {"language": "en", "next": "https://elsewhere.example/"})["Location"] == "/"


def _login_page_after_choosing(language: str) -> str:
    visitor = Client()
    visitor.post("/language/", {"language": language, "next": "/admin/login/"})
    return visitor.get("/admin/login/", headers={"accept-language": "en"}).content.decode()


def test_each_page_offers_both_languages(browser: Client, filled: Filled) -> None:
    for client, page in ((browser, "/admin/"), (browser, filled.site), (Client(), "/admin/login/")):
        text = client.get(page).content.decode()
        assert 'action="/language/"' in text and "日本語" in text and "English" in text, page


def test_the_themes_words_are_japanese_too(browser: Client, filled: Filled) -> None:
    for page in ("/admin/tenants/backup/?q=nothing", "/admin/tenants/tenant/", f"{filled.site}runs/run/"):
        text = browser.get(page, headers={"accept-language": "ja"}).content.decode()
        assert ENGLISH.findall(text) == [], page
    found = browser.get(f"/admin/tenants/tenant/?q={filled.tenant.pk}", headers={"accept-language": "ja"})
    assert re.search(">1 件</p>", found.content.decode())


def test_times_have_their_zone(browser: Client, filled: Filled) -> None:
    for language in ("en", "ja"):
        text = browser.get("/admin/tenants/tenant/", headers={"accept-language": language}).content.decode()
        assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d JST", text), language
