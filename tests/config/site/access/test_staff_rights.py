"""No one except a superuser can gain or grant more rights than they have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db.models.functions import Now
from django.test import Client

from audit.control.models import ControlAuditLog
from tenants.access.assign import roles_of
from tenants.models import RoleAssignment, TemporaryAccess, Tenant, TenantGroup
from tests.config.site.forms import Browser
from tests.support.staff import PASSWORD, give_role, make_user, roles_form

NewUser = Callable[..., User]
NEW_PASSWORD = {"password1": "x" + PASSWORD, "password2": "x" + PASSWORD, "usable_password": "true"}
REFUSED = "You can give roles only for tenants that you administer."


class Office:
    """Two groups of one tenant each; the manager administers the first group."""

    def __init__(self, ours: Tenant, theirs: Tenant) -> None:
        self.ours, self.theirs = ours, theirs
        self.our_group = TenantGroup.objects.create(name=f"ours {uuid4().hex[:8]}")
        self.their_group = TenantGroup.objects.create(name=f"theirs {uuid4().hex[:8]}")
        self.our_group.tenants.add(ours)
        self.their_group.tenants.add(theirs)
        self.manager = make_user(is_superuser=False)
        give_role(self.manager, "administrator", group=self.our_group)


@pytest.fixture(scope="module")
def made() -> Iterator[Office]:
    from tenants.lifecycle.create import tenant_create
    from tests.support.tenant_fixtures import remove

    tenants = [tenant_create(name=f"office {uuid4().hex[:12]}") for _number in range(2)]
    office = Office(*tenants)
    yield office
    office.manager.delete()
    office.our_group.delete()
    office.their_group.delete()
    for tenant in tenants:
        remove(tenant)


@pytest.fixture
def office(made: Office) -> Iterator[Office]:
    users, groups = (
        set(User.objects.values_list("pk", flat=True)),
        set(TenantGroup.objects.values_list("pk", flat=True)),
    )
    own = rights(made.manager)
    yield made
    User.objects.exclude(pk__in=users).delete()
    TenantGroup.objects.exclude(pk__in=groups).delete()
    assert rights(made.manager) == own


@pytest.fixture
def client(office: Office) -> Client:
    client = Browser()
    client.force_login(office.manager)
    return client


def row(**values: object) -> dict[str, str]:
    return {name: str(value) for name, value in values.items()}


def existing(assignment: RoleAssignment, **values: object) -> dict[str, str]:
    """Return an assignment's row in the form, changed by `values`."""
    now = {
        "id": assignment.pk,
        "user": assignment.user_id,
        "role": assignment.role,
        "scope": assignment.scope,
        "group": assignment.group_id or "",
        "tenant": assignment.tenant_id or "",
    }
    return row(**(now | values))


def form_of(user: User, *rows: dict[str, str], initial: int = 0, **values: Any) -> dict[str, Any]:
    return {"username": user.username, "is_active": "on", **roles_form(*rows, initial=initial), **values}


def rights(user: User) -> tuple[object, ...]:
    found = User.objects.get(pk=user.pk)
    return found.username, found.password, found.is_active, found.is_staff, found.is_superuser, roles_of(user.pk)


def page(user: User, action: str = "change") -> str:
    return f"/admin/auth/user/{user.pk}/{action}/"


# -- one's own account ---------------------------------------------------------------------------------------------


def test_no_one_gives_themselves_anything(client: Client, office: Office) -> None:
    own = RoleAssignment.objects.get(user=office.manager)
    before = rights(office.manager)
    for rows, initial in (
        ([row(role="administrator", scope="all")], 0),
        ([row(role="viewer", scope="tenant", tenant=office.theirs.pk)], 0),
        ([row(role="viewer", scope="tenant", tenant=office.ours.pk)], 0),
        ([existing(own, scope="all", group="")], 1),
        ([existing(own, group=office.their_group.pk)], 1),
        ([existing(own, DELETE="on")], 1),
    ):
        client.post(page(office.manager), form_of(office.manager, *rows, initial=initial))
        assert rights(office.manager) == before
    client.post(page(office.manager), form_of(office.manager, is_superuser="on", is_staff="on"))
    assert rights(office.manager) == before


def test_djangos_own_permissions_count_for_nothing(office: Office, client: Client) -> None:
    """Neither raw permissions nor Django's groups give a right, and no page assigns them."""
    staff, group = make_user(is_superuser=False), Group.objects.create(name=f"group-{uuid4().hex[:8]}")
    group.permissions.set(Permission.objects.all())
    staff.groups.add(group)
    staff.user_permissions.set(Permission.objects.all())
    fresh = User.objects.get(pk=staff.pk)
    assert not fresh.has_perm("runs.view_run") and not fresh.has_module_perms("runs")
    assert fresh.get_all_permissions() == set()
    html = client.get(page(office.manager)).content.decode()
    assert "user_permissions" not in html and 'name="groups"' not in html
    assert client.get("/admin/auth/group/").status_code == 404
    group.delete()


# -- others --------------------------------------------------------------------------------------------------------


def above(office: Office, kind: str) -> User:
    """Create a user of this kind, whom the manager may not see; return the user."""
    other = make_user(is_superuser="superuser" in kind)
    if kind == "inactive superuser":
        User.objects.filter(pk=other.pk).update(is_active=False)
    if kind == "all tenants":
        give_role(other, "viewer")
    if kind == "their tenant too":
        give_role(other, "viewer", tenant=office.ours)
        give_role(other, "viewer", tenant=office.theirs)
    if kind == "their group":
        give_role(other, "viewer", group=office.their_group)
    if kind == "their tenant for an hour":
        give_role(other, "operator", tenant=office.ours)
        TemporaryAccess.objects.create(
            user=other,
            user_name=other.get_username(),
            tenant=office.theirs,
            role="viewer",
            reason="support",
            recorded_at=Now(),
            expires_at=Now() + timedelta(hours=1),
        )
    return other


@pytest.mark.parametrize(
    "kind",
    [
        *("superuser", "inactive superuser", "all tenants", "their tenant too", "their group"),
        *("their tenant for an hour", "no role"),
    ],
)
def test_users_with_more_rights_do_not_exist_for_the_manager(kind: str, client: Client, office: Office) -> None:
    other = above(office, kind)
    before, unknown = rights(other), User(pk=987654321, username="unknown")
    assert other.username not in client.get("/admin/auth/user/").content.decode()
    for action, form in (
        ("change", None),
        ("password", None),
        ("delete", None),
        ("change", form_of(other, username="renamed")),
        ("change", form_of(other, is_active="")),
        ("change", form_of(other, row(role="viewer", scope="tenant", tenant=office.ours.pk))),
        ("password", NEW_PASSWORD),
        ("password", {"usable_password": "false", "unset-password": "1"}),
        ("delete", {"post": "yes"}),
    ):
        answers = [
            client.get(page(user, action)) if form is None else client.post(page(user, action), form)
            for user in (other, unknown)
        ]
        first, second = (said(answer, user) for answer, user in zip(answers, (other, unknown), strict=True))
        assert first == second, action
        assert rights(other) == before
    assert not ControlAuditLog.objects.filter(resource_type="user", resource_id=str(other.pk)).exists()


def said(response: Any, user: User) -> tuple[object, ...]:
    # As a part of an address: a short id is also a digit of other words, such as "utf-8".
    text, location = (
        one.replace(f"/{user.pk}/", "/ID/") for one in (response.content.decode(), response.headers.get("Location", ""))
    )
    return response.status_code, location, text


def test_there_are_no_actions_on_many_at_once(client: Client, office: Office) -> None:
    root, colleague = make_user(is_superuser=True), make_user(is_superuser=False)
    give_role(colleague, "viewer", tenant=office.ours)
    form = {"action": "delete_selected", "_selected_action": [root.pk, colleague.pk], "post": "yes"}
    client.post("/admin/auth/user/", form)
    assert User.objects.filter(pk__in=[root.pk, colleague.pk]).count() == 2


def test_a_colleague_inside_ones_own_tenants_is_managed(client: Client, office: Office) -> None:
    colleague = make_user(is_superuser=False)
    held = give_role(colleague, "viewer", tenant=office.ours)
    rows = [existing(held, role="editor"), row(role="administrator", scope="group", group=office.our_group.pk)]
    assert client.post(page(colleague), form_of(colleague, *rows, initial=1)).status_code == 302
    given = [f"administrator group {office.our_group.name}", f"editor tenant {office.ours.pk}"]
    assert rights(colleague)[5] == given
    entry = ControlAuditLog.objects.get(action="user.roles", resource_id=str(colleague.pk))
    assert entry.user_id == f"staff:{office.manager.username}"
    assert entry.details == {
        "name": colleague.username,
        "changes": {"roles": [[f"viewer tenant {office.ours.pk}"], given]},
    }
    assert client.post(page(colleague, "password"), NEW_PASSWORD).status_code == 302
    assert client.post(page(colleague, "delete"), {"post": "yes"}).status_code == 302
    assert not User.objects.filter(pk=colleague.pk).exists()


def test_a_colleague_is_given_nothing_outside_ones_own_tenants(client: Client, office: Office) -> None:
    colleague = make_user(is_superuser=False)
    held = give_role(colleague, "viewer", tenant=office.ours)
    before = rights(colleague)
    for wanted in (
        row(role="viewer", scope="all"),
        row(role="viewer", scope="group", group=office.their_group.pk),
        row(role="viewer", scope="tenant", tenant=office.theirs.pk),
        row(role="viewer", scope="tenant", tenant="no-such-tenant"),
        row(role="viewer", scope="group", group=office.our_group.pk, tenant=office.theirs.pk),
        row(role="owner", scope="tenant", tenant=office.ours.pk),
    ):
        for rows, initial in (([existing(held), wanted], 1), ([existing(held) | wanted], 1)):
            response = client.post(page(colleague), form_of(colleague, *rows, initial=initial))
            assert response.status_code == 200, wanted
            assert rights(colleague) == before
    html = client.get(page(colleague)).content.decode()
    assert office.their_group.name not in html and office.theirs.pk not in html
    found = client.get(
        "/admin/autocomplete/",
        {"app_label": "tenants", "model_name": "roleassignment", "field_name": "tenant", "term": ""},
    )
    assert [one["id"] for one in found.json()["results"]] == [office.ours.pk]


def test_a_row_of_another_user_is_not_taken_over(client: Client, office: Office) -> None:
    colleague, other = make_user(is_superuser=False), make_user(is_superuser=False)
    give_role(colleague, "viewer", tenant=office.ours)
    foreign = give_role(other, "administrator")
    for changes in ({}, {"DELETE": "on"}, {"user": str(colleague.pk)}):
        client.post(page(colleague), form_of(colleague, existing(foreign) | changes, initial=1))
        assert rights(other)[5] == ["administrator all"]
        assert rights(colleague)[5] == [f"viewer tenant {office.ours.pk}"]


def test_the_last_role_is_not_taken_but_the_account_is_closed(client: Client, office: Office) -> None:
    """An administrator of only some tenants could no longer manage an account without roles."""
    colleague = make_user(is_superuser=False)
    held = give_role(colleague, "viewer", tenant=office.ours)
    response = client.post(page(colleague), form_of(colleague, existing(held, DELETE="on"), initial=1))
    assert "Give the user at least one role for your tenants." in response.content.decode()
    assert rights(colleague)[5] == [f"viewer tenant {office.ours.pk}"]
    assert client.post(page(colleague), form_of(colleague, existing(held), initial=1, is_active="")).status_code == 302
    assert not User.objects.get(pk=colleague.pk).is_active


def test_a_new_user_is_staff_with_the_roles_given_and_no_more(client: Client, office: Office) -> None:
    name = f"new-{uuid4().hex[:8]}"
    form = {"username": name, "password1": PASSWORD, "password2": PASSWORD, "usable_password": "true"}
    flags = {"is_superuser": "on", "user_permissions": "1"}
    for rows in ([], [row(role="viewer", scope="all")]):
        assert client.post("/admin/auth/user/add/", form | flags | roles_form(*rows)).status_code == 200
        assert not User.objects.filter(username=name).exists()
    own = row(role="viewer", scope="tenant", tenant=office.ours.pk)
    assert client.post("/admin/auth/user/add/", form | flags | roles_form(own)).status_code == 302
    made = User.objects.get(username=name)
    assert rights(made)[2:] == (True, True, False, [f"viewer tenant {office.ours.pk}"])


# -- who else may not ------------------------------------------------------------------------------------------------


def test_access_for_a_reason_makes_no_administrator(office: Office) -> None:
    operator, colleague = make_user(is_superuser=False), make_user(is_superuser=False)
    give_role(operator, "operator", tenant=office.theirs)
    give_role(colleague, "viewer", tenant=office.ours)
    TemporaryAccess.objects.create(
        user=operator,
        user_name=operator.username,
        tenant=office.ours,
        role="administrator",
        reason="forged",
        recorded_at=Now(),
        expires_at=Now() + timedelta(hours=1),
    )
    client = Browser()
    client.force_login(operator)
    assert colleague.username not in client.get("/admin/auth/user/").content.decode()
    before = rights(colleague)
    client.post(page(colleague, "password"), NEW_PASSWORD)
    assert rights(colleague) == before


@pytest.mark.parametrize("role", ["viewer", "editor", "reviewer", "operator"])
def test_other_roles_reach_no_users(role: str, office: Office) -> None:
    staff, colleague = make_user(is_superuser=False), make_user(is_superuser=False)
    give_role(staff, role)
    give_role(colleague, "viewer", tenant=office.ours)
    client = Browser()
    client.force_login(staff)
    before = rights(colleague)
    for address in ("/admin/auth/user/", page(colleague), page(colleague, "password"), "/admin/auth/user/add/"):
        assert client.get(address).status_code in (302, 403), address
    client.post(page(colleague), form_of(colleague, is_active=""))
    assert rights(colleague) == before


# -- groups of tenants -----------------------------------------------------------------------------------------------


def test_an_administrator_of_some_tenants_changes_no_group(client: Client, office: Office) -> None:
    """A tenant that joins a group is open to everyone who has a role for the group."""
    for action, form in (
        (f"{office.our_group.pk}/change", {"name": "renamed", "tenants": [office.ours.pk, office.theirs.pk]}),
        (f"{office.our_group.pk}/delete", {"post": "yes"}),
        ("add", {"name": "mine", "tenants": [office.theirs.pk]}),
    ):
        assert client.post(f"/admin/tenants/tenantgroup/{action}/", form).status_code == 403
    assert list(office.our_group.tenants.values_list("pk", flat=True)) == [office.ours.pk]
    assert client.get("/admin/tenants/tenantgroup/").status_code == 403


def test_an_administrator_of_all_tenants_changes_groups_and_users_but_no_superuser(office: Office) -> None:
    chief, root, colleague = make_user(is_superuser=False), make_user(is_superuser=True), make_user(is_superuser=False)
    give_role(chief, "administrator")
    client = Browser()
    client.force_login(chief)
    group = TenantGroup.objects.create(name=f"new {uuid4().hex[:8]}")
    address = f"/admin/tenants/tenantgroup/{group.pk}/change/"
    assert client.post(address, {"name": group.name, "tenants": [office.ours.pk]}).status_code == 302
    entry = ControlAuditLog.objects.get(action="tenant_group.change", resource_id=str(group.pk))
    assert entry.details == {
        "name": group.name,
        "fields": ["tenants"],
        "added": [office.ours.pk],
        "removed": [],
    }
    wanted = row(role="administrator", scope="all")
    assert client.post(page(colleague), form_of(colleague, wanted, is_superuser="on")).status_code == 302
    assert rights(colleague)[4:] == (False, ["administrator all"])
    before = rights(root)
    assert client.post(page(root), form_of(root, is_active="")).status_code == 403
    assert client.post(page(root, "password"), NEW_PASSWORD).status_code == 403
    assert rights(root) == before


def test_a_superuser_may_do_all_of_it(browser: Client, office: Office) -> None:
    other = make_user(is_superuser=True)
    form = form_of(other, row(role="viewer", scope="all"), is_staff="on")
    assert browser.post(page(other), form).status_code == 302
    assert rights(other)[3:] == (True, False, ["viewer all"])
    assert browser.post(page(other, "delete"), {"post": "yes"}).status_code == 302
