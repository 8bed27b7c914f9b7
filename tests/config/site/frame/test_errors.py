"""Error pages are in the person's language, have the icon, hold no secret and, except on an unknown host, lead back."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import translation

from tenants.errors import TenantNotActive
from tenants.models import Tenant, TenantStatus
from tests.support.staff import Filled, give_role

TITLES = {
    "en": {403: "Not allowed", 404: "Page not found", 500: "Server error"},
    "ja": {403: "権限がありません", 404: "ページが見つかりません", 500: "サーバーエラー"},
}


@pytest.mark.parametrize("language", ["en", "ja"])
def test_refused_missing_and_broken_pages(
    staff: User, filled: Filled, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(raise_request_exception=False, headers={"accept-language": language})
    client.force_login(staff)
    give_role(staff, "viewer", filled.tenant)
    answers = {
        403: [client.get("/admin/tenants/databaseserver/"), client.get(f"{filled.site}runs/run/series/")],
        404: [client.get("/admin/nothing/here/"), client.get(f"{filled.site}nothing/here/"), client.get("/nothing")],
    }

    def broken(*_arguments: object, **_keywords: object) -> None:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr("django.contrib.auth.middleware.get_user", broken)
    answers[500] = [client.get("/admin/")]
    for status, found in answers.items():
        for answer in found:
            text = answer.content.decode()
            assert answer.status_code == status
            assert TITLES[language][status] in text and f'<html lang="{language}">' in text
            assert 'href="/admin/"' in text and 'href="/static/config/favicon.svg"' in text
            assert 'href="/static/unfold/fonts/inter/styles.css"' in text
            assert "secret" not in text
    assert f'href="{filled.site}"' in answers[404][1].content.decode()


def test_a_form_without_its_token_is_refused_in_words(superuser: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(superuser)
    answer = client.post("/admin/logout/")
    assert answer.status_code == 403
    assert "The form was not accepted" in answer.content.decode()


@pytest.mark.parametrize(("language", "title"), [("en", "Unknown address"), ("ja", "不明なアドレス")])
def test_an_unknown_host_is_named_as_the_problem(language: str, title: str) -> None:
    answer = Client(headers={"accept-language": language, "host": "elsewhere.example"}).get("/admin/")
    text = answer.content.decode()
    assert answer.status_code == 400
    assert title in text and "ALLOWED_HOSTS" in text and "elsewhere.example" not in text
    # There, no address of this site answers.
    assert "<a " not in text


def test_browsers_find_the_icon() -> None:
    answer = Client().get("/favicon.ico")
    assert answer["Location"] == "/static/config/favicon.svg"


def test_hints_name_buttons_on_pages_and_commands_elsewhere(browser: Client, filled: Filled) -> None:
    assert "`seo-gen tenant resume" in str(TenantNotActive(filled.tenant.pk, "suspended"))
    with translation.override("ja"):
        for status in TenantStatus:
            assert f"「{status.label}」" in str(TenantNotActive(filled.tenant.pk, status))
    Tenant.objects.filter(pk=filled.tenant.pk).update(status=TenantStatus.SUSPENDED)
    page = browser.get(filled.site).content.decode()
    assert "“Resume” on its page makes it active again." in page and "seo-gen tenant" not in page
    missing = browser.get("/t/no-such-tenant/admin/").content.decode()
    assert "“Tenants” lists the tenants that you may see." in missing and "seo-gen tenant" not in missing
