"""Each view opens for the roles in `access_table`, a foreign tenant looks unknown, and no view is left out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import pytest
from django.test import Client

from tenants.models import (
    Role,
)
from tests.config.site.access.access_table import (
    ABOUT_TENANTS,
    ABOUT_THE_INSTALLATION,
    EVERYONE,
    OPERATORS,
    POSTED,
    TENANT_SITE,
)
from tests.config.site.access.rows import World, address_of, views, world

__all__ = ["world"]

REFUSED, NOT_FOUND = 403, 404
UNKNOWN_IDS: dict[type, object] = {str: "no-such-tenant", int: 987654321, UUID: UUID(int=7)}


def test_every_view_is_in_the_table() -> None:
    assert set(views("config.urls")) - EVERYONE == {*ABOUT_TENANTS, *ABOUT_THE_INSTALLATION}
    assert set(views("config.urls_tenant")) - EVERYONE == set(TENANT_SITE)


# -- asking ----------------------------------------------------------------------------------------------------------


def ask(client: Client, name: str, address: str) -> Any:
    response = client.post(address) if name in POSTED else client.get(address)
    if response.streaming:
        response.close()
    return response


def may(response: Any) -> bool:
    """Return whether the view was opened, by a page or a redirect; 403 is a refusal, and any other status fails."""
    assert response.status_code in (200, 302, REFUSED), response.status_code
    return bool(response.status_code != REFUSED)


def unknown(ids: Mapping[str, object]) -> dict[str, object]:
    return {name: UNKNOWN_IDS[type(value)] for name, value in ids.items()}


def said(response: Any, own_id: object) -> tuple[object, ...]:
    """Return a response's status, location and content, with "ID" in place of `own_id`."""

    def anonymous(text: str) -> str:
        # A whole word: a short id may also be a digit in another word, such as "utf-8".
        return re.sub(rf"(?<![\w-]){re.escape(str(own_id))}(?![\w-])", "ID", text)

    return response.status_code, anonymous(response.headers.get("Location", "")), anonymous(response.content.decode())


def expected(table: Mapping[str, str], role: str) -> dict[str, bool]:
    return {name: role in roles.split() for name, roles in table.items()}


# -- own, foreign, unknown -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", Role.values)
def test_views_about_tenants(world: World, role: str) -> None:
    """On the control site, a role for our tenants alone opens the listed views; other tenants look nonexistent."""
    routes = views("config.urls")
    got, client = {}, world.some[role]
    for name in ABOUT_TENANTS:
        if name in ABOUT_THE_INSTALLATION:
            continue
        address = address_of(name, routes[name], world.ours.control)
        assert address is not None, name
        got[name] = may(ask(client, name, address))
        if "<" in routes[name]:
            same_as_unknown(client, name, routes[name], world)
    wanted = expected(ABOUT_TENANTS, role)
    assert got == {name: wanted[name] for name in got}


def same_as_unknown(client: Client, name: str, route: str, world: World) -> None:
    answers = []
    for ids in (world.theirs.control, unknown(world.theirs.control)):
        address = address_of(name, route, ids)
        assert address is not None
        response = ask(client, name, address)
        model = max((model for model in ids if name.startswith(f"{model}_")), key=len)
        answers.append(said(response, ids[model]))
    assert answers[0] == answers[1], name
    assert answers[0][0] != 200, name


@pytest.mark.parametrize("role", Role.values)
def test_views_about_the_installation(world: World, role: str) -> None:
    """A role for all tenants opens the listed views; a role for only some opens none, whichever role it is."""
    routes = views("config.urls")
    got, none = {}, {}
    for name in ABOUT_THE_INSTALLATION:
        address = address_of(name, routes[name], world.installation)
        if address is not None and not name.endswith("_history"):
            got[name] = may(ask(world.every[role], name, address))
            none[name] = may(ask(world.some[role], name, address))
    wanted = expected(ABOUT_THE_INSTALLATION, role)
    assert got == {name: wanted[name] for name in got}
    assert [name for name, opened in none.items() if opened] == []


def test_only_a_role_for_all_tenants_copies_one(world: World) -> None:
    address = f"/admin/tenants/tenant/{world.ours.tenant.id}/copy/"
    assert [role for role, client in world.every.items() if may(client.get(address))] == OPERATORS.split()


@pytest.mark.parametrize("role", Role.values)
def test_views_of_a_tenants_site(world: World, role: str) -> None:
    routes = views("config.urls_tenant")
    got, client = {}, world.some[role]
    for name in TENANT_SITE:
        address = address_of(name, routes[name], world.ours.own_site, f"/t/{world.ours.tenant.id}/")
        assert address is not None, name
        got[name] = may(ask(client, name, address))
        foreign, none = (
            address_of(name, routes[name], world.theirs.own_site, f"/t/{tenant_id}/")
            for tenant_id in (world.theirs.tenant.id, "no-such-tenant")
        )
        assert foreign and none
        answers = [
            said(ask(client, name, address), tenant_id)
            for address, tenant_id in ((foreign, world.theirs.tenant.id), (none, "no-such-tenant"))
        ]
        assert answers[0] == answers[1] and answers[0][0] == NOT_FOUND, name
    assert got == expected(TENANT_SITE, role)


def test_without_a_role_no_view_opens(world: World) -> None:
    """Pages that everyone may open do not name the tenant."""
    for urlconf, prefix, ids in (
        ("config.urls", "/", {**world.ours.control, **world.installation}),
        ("config.urls_tenant", f"/t/{world.ours.tenant.id}/", world.ours.own_site),
    ):
        for name, route in views(urlconf).items():
            if name in EVERYONE or name.endswith("_history"):
                continue
            address = address_of(name, route, ids, prefix)
            if address is not None:
                assert ask(world.nobody, name, address).status_code in (REFUSED, NOT_FOUND), name
    for page in ("/admin/", "/admin/tenants/", "/admin/autocomplete/", "/admin/password_change/"):
        assert world.ours.tenant.id not in world.nobody.get(page).content.decode()
