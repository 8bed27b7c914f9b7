"""The words of every page, in both languages: no bare id as a heading, no time without its zone, no backticks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.contrib.admin.utils import flatten, label_for_field
from django.contrib.auth.models import User
from django.test import Client
from django.utils import translation

from config.site.sites import StaffSite, control_site, tenant_site
from tenants.models import Approval, Backup, OperationRequest, Restore, Tenant
from tests.support.browser.pages import control_pages, tenant_pages
from tests.support.browser.rows import filled_pages
from tests.support.browser.shown_text import Shown, shown_text

pytestmark = pytest.mark.timeout(900)

# A time of day such as "21:31" or "21:31:04" that no zone follows.
TIME = re.compile(r"(?<![\w:.+-])\d\d:\d\d(?::\d\d)?(?![\d:])(?! (?:JST|\+0900))")
# "工程 を追加": a text of Django with a name in it.
SPACE_BEFORE_PARTICLE = re.compile("[ぁ-んァ-ヶー一-龥] (?:[をがのはで](?:[^ぁ-ん]|$)|で絞り込む)")
SPACE_AFTER_FULL_STOP = re.compile(r"。 \S")
# A UUID, alone or as the name of the row that a page is about.
ID_ALONE = re.compile(r"(?:^|: )[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?: \||$)")
# A document or a list of them, but not a placeholder such as "{{ keyword }}".
RAW_JSON = re.compile(r'^(?:\{ ?".*\}|\[ ?["{].*\])$')
NO_WORDS = {"[]", "{}", "None", "null"}
# What people who read Japanese call it, too.
SAME_IN_JAPANESE = {"ID", "PostgreSQL", "SHA-256"}
CARD_TITLE = re.compile(r"<h2[^>]*>\s*([^<]*?)\s*</h2>")
CRUMB = re.compile('class="seo-gen-crumb-last" title="([^"]*)"')


def test_every_page_says_it_well(browser: Client, superuser: User, tenant: Tenant) -> None:
    for model in (OperationRequest, Approval, Restore, Backup):
        model.objects.all().delete()
    found: list[str] = []
    with filled_pages(tenant, superuser) as known:
        for page in (*control_pages(known), *tenant_pages(known)):
            for language, _name in settings.LANGUAGES:
                browser.cookies[settings.LANGUAGE_COOKIE_NAME] = language
                response = browser.get(page, follow=True)
                if not response["Content-Type"].startswith("text/html"):
                    continue
                html = response.content.decode()
                shown = shown_text(html)
                repeated = {*CARD_TITLE.findall(html)} & {*CRUMB.findall(html)}
                found += [f"{language} {page}: a card repeats the page's title: {text}" for text in repeated]
                found += [f"{language} {page}: {one}" for one in _faults(shown)]
                if known.ids["gone"] in page and "There is no backup yet." in shown.plain:
                    found.append(f"{page}: a deleted tenant gets no backup any more")
                if language == "ja":
                    found += [f"{page}: 米ドル is {text}" for text in shown.plain if re.search(r"\bUSD\b", text)]
                if "?" not in page and {"Show all", "全件表示"} & {*shown.headings}:
                    found.append(f"{language} {page}: all rows are shown already")
    assert found == [], "\n".join(found)


def _faults(shown: Shown) -> Iterator[str]:
    yield from (f"a heading that names nothing: {text}" for text in shown.headings if ID_ALONE.search(text))
    for text in shown.plain:
        if TIME.search(text):
            yield f"a time without its zone: {text}"
        if "`" in text:
            yield f"a backtick: {text}"
        if SPACE_BEFORE_PARTICLE.search(text):
            yield f"a space that Japanese does not have: {text}"
    yield from (f"raw JSON: {text[:60]}" for text in shown.open if RAW_JSON.search(text))
    yield from (f"a space between sentences: {text}" for text in shown.flows if SPACE_AFTER_FULL_STOP.search(text))
    for text in (*shown.plain, *shown.code):
        if text in NO_WORDS:
            yield f"no word for people: {text}"


def test_an_add_page_says_that_something_is_added(browser: Client) -> None:
    for language, title in (("en", "Add LLM provider"), ("ja", "LLM プロバイダーを追加")):
        html = browser.get("/admin/llm/llmprovider/add/", headers={"accept-language": language}).content.decode()
        assert CRUMB.findall(html)[-1] == title


def test_the_title_of_a_list_is_its_menu_entry(browser: Client) -> None:
    for language, title in (("en", "Providers | "), ("ja", "プロバイダー | ")):
        html = browser.get("/admin/llm/llmprovider/", headers={"accept-language": language}).content.decode()
        assert shown_text(html).headings[0].startswith(title)


def test_the_name_of_a_person_keeps_its_letters(browser: Client, superuser: User) -> None:
    html = browser.get(f"/admin/sign-ins/{superuser.pk}/").content.decode()
    [crumb] = CRUMB.findall(html)
    assert superuser.username in crumb


def test_every_label_of_a_column_or_field_is_translated() -> None:
    with translation.override("ja"):
        found = {label for site in (control_site, tenant_site) for label in _labels(site)}
    assert sorted(label for label in found if label.isascii() and label not in SAME_IN_JAPANESE) == []


def _labels(site: StaffSite) -> Iterator[str]:
    admins: list[Any] = list(site._registry.values())
    for admin in admins:
        fields = admin.fields or [name for _title, options in admin.fieldsets or () for name in options["fields"]]
        for name in flatten([*admin.list_display, *fields]):
            # The labels of a form's own fields are messages, which have a test of their own.
            if name not in getattr(admin.form, "declared_fields", {}):
                yield str(label_for_field(name, admin.model, admin))


def test_an_empty_table_of_roles_says_what_that_means(browser: Client, superuser: User, staff: User) -> None:
    needs_none = "A superuser may do everything and needs no role."
    for page, shown, other in (
        ("/admin/auth/user/add/", "No role yet", needs_none),
        (f"/admin/auth/user/{staff.pk}/change/", "No role yet", needs_none),
        (f"/admin/auth/user/{superuser.pk}/change/", needs_none, "No role yet"),
    ):
        html = browser.get(page).content.decode()
        assert shown in html and other not in html, page
