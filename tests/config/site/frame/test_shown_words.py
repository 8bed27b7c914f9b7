"""The words of every page, in both languages: each kind of fault that pictures of the pages once showed."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client

from tenants.models import Approval, Backup, OperationRequest, Restore, Tenant
from tests.support.browser.pages import control_pages, tenant_pages
from tests.support.browser.rows import filled_pages
from tests.support.browser.shown_text import Shown, shown_text

pytestmark = pytest.mark.timeout(900)

# A time of day such as "21:31" or "21:31:04" that no zone follows.
TIME = re.compile(r"(?<![\w:.+-])\d\d:\d\d(?::\d\d)?(?![\d:])(?! (?:JST|\+0900))")


def test_every_page_says_it_well(browser: Client, superuser: User, tenant: Tenant) -> None:
    for model in (OperationRequest, Approval, Restore, Backup):
        model.objects.all().delete()
    found: list[str] = []
    with filled_pages(tenant, superuser) as known:
        for page in (*control_pages(known), *tenant_pages(known)):
            for language in settings.LANGUAGES:
                browser.cookies[settings.LANGUAGE_COOKIE_NAME] = language[0]
                shown = shown_text(browser.get(page, follow=True).content.decode())
                found += [f"{language[0]} {page}: {one}" for one in _faults(shown)]
    assert found == [], "\n".join(found)


def _faults(shown: Shown) -> Iterator[str]:
    for text in shown.plain:
        if TIME.search(text):
            yield f"a time without its zone: {text}"
