"""The menu, built once per request, has what the person may open; pages share its words and lead back to its lists."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from config.site import navigation
from llm.models import LLMModel
from tests.config.site.test_pages import CONTROL_PAGES, TENANT_PAGES
from tests.support.browser.shown_text import shown_text
from tests.support.staff import Filled, give_role

PART = re.compile(r'<(?:a|span) [^>]*class="seo-gen-crumb[^>]*>([^<]*)<')
ENTRY = re.compile(r'<a href="([^"]*)"[^>]*class="seo-gen-menu-item.*?<span>([^<]*)</span>', re.DOTALL)
# The arrow beside a page's title has words for a screen reader only.
ARROW = re.compile(r'<a href="([^"]*)"[^>]*aria-label="Back to ')
ACTIVE = re.compile(r'aria-current="page" class="seo-gen-menu-item.*?<span>([^<]*)</span>', re.DOTALL)


def test_the_menu_is_built_once_per_request(browser: Client, filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []

    def counted(name: str) -> Any:
        build = getattr(navigation, name)

        def count(request: Any) -> Any:
            built.append(name)
            return build(request)

        return count

    for name in ("_control_menu", "_tenant_menu"):
        monkeypatch.setattr(navigation, name, counted(name))
    for page in ("/admin/tenants/tenant/", f"/admin/tenants/tenant/{filled.tenant.id}/change/"):
        assert browser.get(page).status_code == 200
    assert browser.get(f"{filled.site}runs/run/").status_code == 200
    assert built == ["_control_menu", "_control_menu", "_tenant_menu"]


def test_the_menu_has_what_a_person_may_open(staff: User, filled: Filled) -> None:
    give_role(staff, "viewer", filled.tenant)
    client = Client()
    client.force_login(staff)
    html = client.get(f"{filled.site}runs/run/").content.decode()
    assert f'<a href="{filled.site}runs/artifact/"' in html
    assert f'<a href="{filled.site}runs/run/reviews/"' not in html
    html = client.get("/admin/").content.decode()
    assert '<a href="/admin/tenants/tenant/"' in html
    for page in ("auth/user/", "sign-ins/"):
        assert f'<a href="/admin/{page}"' not in html, page


def test_every_page_belongs_to_one_entry_of_the_menu_and_begins_with_its_words(browser: Client, filled: Filled) -> None:
    ids = {"run": filled.run.pk, "step": filled.step.pk, "artifact": filled.artifact.pk}
    tenant_pages = [filled.site + page.format(**ids) for page in (*TENANT_PAGES, "runs/run/reviews/")]
    for page in (*CONTROL_PAGES, *tenant_pages):
        html = browser.get(page, follow=True).content.decode()
        active = ACTIVE.findall(html)
        assert len(active) <= 1, page
        assert active == trail_of(html)[:1] or not active, page


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_menu_entry_its_page_and_its_breadcrumb_have_the_same_words(
    browser: Client, filled: Filled, language: str
) -> None:
    chosen = {"accept-language": language}
    found = []
    for site in ("/admin/", filled.site):
        entries = ENTRY.findall(browser.get(site, headers=chosen).content.decode())
        assert len(entries) > 8
        for link, title in entries:
            html = browser.get(link, headers=chosen).content.decode()
            shown = shown_text(html).headings[0].split(" | ")[0].removeprefix(f"{filled.tenant.id}: ")
            if not shown == trail_of(html)[-1] == unescape(title):
                found.append((link, title, shown, trail_of(html)))
    assert found == []


def test_the_page_of_an_app_names_lists_as_the_menu_does(browser: Client) -> None:
    content = browser.get("/admin/llm/").content.decode().split('id="content"')[1]
    assert "Models and prices" in content
    assert "LLM models" not in content


def test_a_heading_names_the_page(browser: Client, filled: Filled) -> None:
    tenant, run = filled.tenant.pk, filled.run.pk
    model = LLMModel.objects.earliest("pk")
    for page, trail in {
        "/admin/": ["Overview"],
        "/admin/account/": ["My account"],
        "/admin/llm/llmmodel/": ["Models and prices"],
        "/admin/llm/llmmodel/add/": ["Models and prices", "Add LLM model"],
        f"/admin/tenants/tenant/{tenant}/change/": ["Tenants", tenant],
        f"/admin/tenants/tenant/{tenant}/history/": ["Audit log", f"History of tenant {tenant}"],
        f"/admin/tenants/tenant/{tenant}/drill/": ["Tenants", tenant, f"Restore drill of tenant {tenant}"],
        "/admin/tenants/databaseserver/main/delete/": ["Database servers", "main", "Cannot delete database server"],
        reverse("admin:llm_llmmodel_set_prices", args=[model.pk]): [
            "Models and prices",
            str(model),
            f"Prices of {model}",
        ],
        f"{filled.site}runs/run/reviews/": ["Reviews"],
        f"{filled.site}runs/run/add/": ["Runs", "Start a run"],
        f"{filled.site}runs/run/{run}/compare/": ["Runs", filled.keyword, "Compare texts"],
    }.items():
        assert trail_of(browser.get(page, follow=True).content.decode()) == trail, page


def test_a_list_that_a_link_narrowed_says_so_and_leads_to_all_rows(browser: Client, filled: Filled) -> None:
    history = browser.get(f"/admin/tenants/tenant/{filled.tenant.pk}/history/", follow=True).content.decode()
    assert "Only the rows that match the link you followed are shown." in history
    assert re.search('<a href="\\?"[^>]*>Show all rows</a>', history)
    for page in (
        "/admin/audit_control/controlauditlog/?reads=all&q=ann",
        f"{filled.site}runs/run/?status__exact=failed",
    ):
        assert "Only the rows that match the link" not in browser.get(page).content.decode(), page


def test_a_page_below_a_list_leads_back_to_it(browser: Client, filled: Filled) -> None:
    model = LLMModel.objects.earliest("pk")
    for page in (
        reverse("admin:llm_llmmodel_set_prices", args=[model.pk]),
        reverse("admin:llm_llmmodel_import_prices"),
    ):
        assert ARROW.findall(browser.get(page, follow=True).content.decode()) == ["/admin/llm/llmmodel/"], page
    for page in ("/admin/llm/llmmodel/", "/admin/", "/admin/costs/", "/admin/sign-ins/"):
        assert ARROW.findall(browser.get(page).content.decode()) == [], page


def test_a_form_and_a_deletion_lead_back(browser: Client, filled: Filled) -> None:
    tenant = f"/admin/tenants/tenant/{filled.tenant.pk}"
    for page, back in {
        # Refused, because tenants are on it.
        "/admin/tenants/databaseserver/main/delete/": "/admin/tenants/databaseserver/main/change/",
        "/admin/llm/stepllmdefault/final/delete/": "/admin/llm/stepllmdefault/final/change/",
        "/admin/tenants/tenant/add/": "/admin/tenants/tenant/",
        f"{tenant}/back-up/": f"{tenant}/change/",
        f"{tenant}/erase/": f"{tenant}/change/",
        "/admin/tenants/tenantschema/migrate/": "/admin/tenants/tenantschema/",
        f"{filled.site}prompts/prompt/add/": f"{filled.site}prompts/prompt/",
    }.items():
        content = browser.get(page).content.decode().split('id="content"')[1]
        assert f'href="{back}"' in content, page


def test_ways_back_have_the_same_words_everywhere(
    browser: Client, filled: Filled, superuser: User, staff: User
) -> None:
    tenant = f"/admin/tenants/tenant/{filled.tenant.pk}"
    for page, words in {
        # What changes something.
        "/admin/tenants/tenant/add/": "Cancel",
        f"{tenant}/back-up/": "Cancel",
        "/admin/llm/stepllmdefault/final/delete/": "Cancel",
        "/admin/password_change/": "Cancel",
        f"/admin/auth/user/{staff.pk}/password/": "Cancel",
        f"{filled.site}prompts/prompt/add/": "Cancel",
        f"{filled.site}prompts/prompt/1/try_out/": "Cancel",
        f"{filled.site}runs/run/add/": "Cancel",
        f"{filled.site}runs/run/series/": "Cancel",
        # What only shows something.
        "/admin/tenants/databaseserver/main/delete/": "Back to main",
        f"{filled.site}runs/step/{filled.step.pk}/change/": "Back to Steps",
        f"{filled.site}runs/runcost/{filled.run.pk}/change/": "Back to Costs of runs",
        f"{filled.site}runs/run/{filled.run.pk}/texts/": "Back to the run",
    }.items():
        links = re.findall(r"<a [^>]*>\s*([^<]*?)\s*</a>", browser.get(page).content.decode())
        ways = [text for text in links if re.match("Back|Cancel|Close|Go back|Return|No, ", text)]
        assert ways == [words], page


def test_errors_follow_the_help_text(browser: Client, filled: Filled) -> None:
    kinds = {"<label": " ", "leading-relaxed mt-2 text-xs": "help ", "text-red-600 text-xs": "error "}
    for page in (
        "/admin/llm/llmprovider/add/",
        f"/admin/tenants/tenant/{filled.tenant.pk}/erase/",
        f"{filled.site}runs/run/add/",
    ):
        content = browser.post(page, {"reason": ""}).content.decode().split('id="content"')[1]
        order = "".join(kinds[found] for found in re.findall("|".join(kinds), content))
        assert "help error" in order and "error help" not in order, page


def trail_of(html: str) -> list[str]:
    """Return the parts of the page's breadcrumb."""
    return [unescape(part) for part in PART.findall(html)]
