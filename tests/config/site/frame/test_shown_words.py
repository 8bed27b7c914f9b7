"""The words of every page, in both languages: each kind of fault that pictures of the pages once showed."""

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
# What people who read Japanese call it, too.
SAME_IN_JAPANESE = {"ID", "PostgreSQL"}


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
