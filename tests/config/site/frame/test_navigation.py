"""The menu has the entries that the person may open, and is built once per request."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from config.site import navigation
from tests.support.staff import Filled, give_role


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
