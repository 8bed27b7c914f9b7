"""Nobody who is not a superuser gets, or gives, more than they have: every way into users and groups is tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client

from audit.control.models import ControlAuditLog
from tests.support.staff import PASSWORD, make_user

# What the manager has: everything about users and groups, and one permission of another kind.
OWN = [f"{verb}_{noun}" for verb in ("add", "change", "delete", "view") for noun in ("user", "group")]
SPARE, FOREIGN = "view_run", "delete_tenant"

NewUser = Callable[..., User]


def permission(codename: str) -> Permission:
    return Permission.objects.get(codename=codename)


@pytest.fixture
def manager() -> Iterator[User]:
    """A member of staff who may do everything to users and groups, and is no superuser."""
    user = make_user(is_superuser=False)
    user.user_permissions.set(Permission.objects.filter(codename__in=[*OWN, SPARE]))
    yield user
    User.objects.filter(pk=user.pk).delete()


@pytest.fixture
def client(manager: User) -> Client:
    client = Client()
    client.force_login(manager)
    return client


@pytest.fixture
def new_user() -> Iterator[NewUser]:
    made = []

    def make(*, is_superuser: bool = False, may: tuple[str, ...] = (), is_active: bool = True) -> User:
        user = make_user(is_superuser=is_superuser)
        user.user_permissions.set(Permission.objects.filter(codename__in=may))
        if not is_active:
            User.objects.filter(pk=user.pk).update(is_active=False)
        made.append(user.pk)
        return user

    yield make
    User.objects.filter(pk__in=made).delete()


@pytest.fixture
def new_group() -> Iterator[Callable[..., Group]]:
    made = []

    def make(*codenames: str) -> Group:
        group = Group.objects.create(name=f"group-{uuid4().hex[:8]}")
        group.permissions.set(Permission.objects.filter(codename__in=codenames))
        made.append(group.pk)
        return group

    yield make
    Group.objects.filter(pk__in=made).delete()


def form_of(user: User, **values: Any) -> dict[str, Any]:
    return {
        "username": user.username,
        "is_active": "on",
        "user_permissions": [str(pk) for pk in user.user_permissions.values_list("pk", flat=True)],
        "groups": [str(pk) for pk in user.groups.values_list("pk", flat=True)],
        **values,
    }


def rights(user: User) -> tuple[object, ...]:
    row = User.objects.get(pk=user.pk)
    own = sorted(row.user_permissions.values_list("codename", flat=True))
    groups = sorted(row.groups.values_list("name", flat=True))
    return row.username, row.password, row.is_active, row.is_staff, row.is_superuser, own, groups


# -- one's own account ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["is_superuser", "is_staff"])
def test_nobody_makes_themselves_or_others_a_superuser_or_staff(
    client: Client, manager: User, new_user: NewUser, flag: str
) -> None:
    colleague = new_user()
    User.objects.filter(pk=colleague.pk).update(is_staff=False)
    for user in (manager, colleague):
        before = rights(user)
        response = client.post(f"/admin/auth/user/{user.pk}/change/", form_of(user, **{flag: "on"}))
        assert response.status_code == 302
        assert rights(user) == before


def test_a_flag_that_one_may_not_change_is_not_taken_away_either(
    client: Client, new_user: NewUser, manager: User
) -> None:
    colleague = new_user()
    assert client.post(f"/admin/auth/user/{colleague.pk}/change/", form_of(colleague)).status_code == 302
    assert User.objects.get(pk=colleague.pk).is_staff


def test_nobody_gives_themselves_a_permission_or_a_group_that_they_lack(
    client: Client, manager: User, new_group: Callable[..., Group]
) -> None:
    before, page = rights(manager), f"/admin/auth/user/{manager.pk}/change/"
    group = new_group(SPARE, FOREIGN)
    own = form_of(manager)["user_permissions"]
    for values in (
        {"user_permissions": [*own, str(permission(FOREIGN).pk)]},
        {"groups": [str(group.pk)]},
    ):
        response = client.post(page, form_of(manager, **values))
        assert response.status_code == 200 and "Select a valid choice" in response.content.decode()
        assert rights(manager) == before
    html = client.get(page).content.decode()
    assert group.name not in html and "Can delete tenant" not in html


# -- others --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("above", ["superuser", "inactive superuser", "more permissions", "a stronger group"])
def test_users_with_more_rights_can_only_be_viewed(
    above: str, client: Client, new_user: NewUser, new_group: Callable[..., Group]
) -> None:
    other = new_user(
        is_superuser="superuser" in above,
        is_active="inactive" not in above,
        may=(FOREIGN,) if above == "more permissions" else (),
    )
    if above == "a stronger group":
        other.groups.add(new_group(FOREIGN))
    before, page = rights(other), f"/admin/auth/user/{other.pk}"
    assert client.get(f"{page}/change/").status_code == 200
    assert client.get(f"{page}/password/").status_code == 403
    password = {"password1": "x" + PASSWORD, "password2": "x" + PASSWORD, "usable_password": "true"}
    without = {"usable_password": "false", "unset-password": "1"}
    for path, form in (
        ("change", form_of(other, username="renamed")),
        ("change", form_of(other, is_active="")),
        ("change", form_of(other, user_permissions=[], groups=[])),
        ("password", password),
        ("password", without),
        ("delete", {"post": "yes"}),
    ):
        assert client.post(f"{page}/{path}/", form).status_code == 403, path
        assert rights(other) == before
    assert not ControlAuditLog.objects.filter(
        resource_type="user", resource_id=str(other.pk), user_id__contains="staff:"
    ).exists()


def test_there_are_no_actions_on_many_at_once(client: Client, new_user: NewUser, manager: User) -> None:
    root, colleague = new_user(is_superuser=True), new_user()
    form = {"action": "delete_selected", "_selected_action": [root.pk, colleague.pk], "post": "yes"}
    client.post("/admin/auth/user/", form)
    client.post("/admin/auth/group/", form)
    assert User.objects.filter(pk__in=[root.pk, colleague.pk]).count() == 2


def test_a_colleague_with_no_more_than_oneself_is_managed(
    client: Client, new_user: NewUser, new_group: Callable[..., Group]
) -> None:
    group = new_group(SPARE)
    colleague = new_user(may=("view_user",))
    page = f"/admin/auth/user/{colleague.pk}"
    given = form_of(colleague, user_permissions=[str(permission(SPARE).pk)], groups=[str(group.pk)])
    assert client.post(f"{page}/change/", given).status_code == 302
    *_, own, groups = rights(colleague)
    assert (own, groups) == ([SPARE], [group.name])
    password = {"password1": "x" + PASSWORD, "password2": "x" + PASSWORD, "usable_password": "true"}
    assert client.post(f"{page}/password/", password).status_code == 302
    assert client.post(f"{page}/delete/", {"post": "yes"}).status_code == 302
    assert not User.objects.filter(pk=colleague.pk).exists()


def test_a_colleague_is_given_nothing_that_one_lacks(
    client: Client, new_user: NewUser, new_group: Callable[..., Group]
) -> None:
    colleague = new_user()
    before = rights(colleague)
    for values in (
        {"user_permissions": [str(permission(FOREIGN).pk)]},
        {"groups": [str(new_group(FOREIGN).pk)]},
    ):
        response = client.post(f"/admin/auth/user/{colleague.pk}/change/", form_of(colleague, **values))
        assert response.status_code == 200 and "Select a valid choice" in response.content.decode()
        assert rights(colleague) == before


def test_a_new_user_begins_with_nothing(client: Client) -> None:
    name = f"new-{uuid4().hex[:8]}"
    form = {
        "username": name,
        "password1": PASSWORD,
        "password2": PASSWORD,
        "usable_password": "true",
        "is_superuser": "on",
        "is_staff": "on",
        "user_permissions": [str(permission(FOREIGN).pk)],
    }
    assert client.post("/admin/auth/user/add/", form).status_code == 302
    made = User.objects.get(username=name)
    assert rights(made)[2:] == (True, False, False, [], [])
    made.delete()


# -- groups --------------------------------------------------------------------------------------------------------


def test_a_group_that_grants_more_is_neither_changed_nor_deleted(
    client: Client, manager: User, new_group: Callable[..., Group]
) -> None:
    group = new_group(SPARE, FOREIGN)
    page = f"/admin/auth/group/{group.pk}"
    assert client.get(f"{page}/change/").status_code == 200
    form = {"name": "renamed", "permissions": [str(permission(SPARE).pk)]}
    assert client.post(f"{page}/change/", form).status_code == 403
    assert client.post(f"{page}/delete/", {"post": "yes"}).status_code == 403
    group.refresh_from_db()
    assert group.name != "renamed" and group.permissions.count() == 2


def test_no_group_is_given_what_one_lacks(client: Client, manager: User, new_group: Callable[..., Group]) -> None:
    group = new_group(SPARE)
    manager.groups.add(group)
    name = f"group-{uuid4().hex[:8]}"
    both = [str(permission(SPARE).pk), str(permission(FOREIGN).pk)]
    for page in (f"/admin/auth/group/{group.pk}/change/", "/admin/auth/group/add/"):
        response = client.post(page, {"name": name, "permissions": both})
        assert response.status_code == 200 and "Select a valid choice" in response.content.decode()
    assert list(group.permissions.values_list("codename", flat=True)) == [SPARE]
    assert not Group.objects.filter(name=name).exists()


def test_a_group_of_what_one_has_is_managed(client: Client, new_group: Callable[..., Group]) -> None:
    group = new_group()
    page = f"/admin/auth/group/{group.pk}"
    form = {"name": group.name, "permissions": [str(permission(SPARE).pk)]}
    assert client.post(f"{page}/change/", form).status_code == 302
    assert list(group.permissions.values_list("codename", flat=True)) == [SPARE]
    assert client.post(f"{page}/delete/", {"post": "yes"}).status_code == 302


# -- superusers ----------------------------------------------------------------------------------------------------


def test_a_superuser_may_do_all_of_it(browser: Client, new_user: NewUser, new_group: Callable[..., Group]) -> None:
    other, group = new_user(is_superuser=True, may=(FOREIGN,)), new_group(FOREIGN)
    page = f"/admin/auth/user/{other.pk}"
    form = form_of(other, is_staff="on", groups=[str(group.pk)], user_permissions=[str(permission("add_run").pk)])
    assert browser.post(f"{page}/change/", form).status_code == 302
    assert rights(other)[3:] == (True, False, ["add_run"], [group.name])
    assert browser.post(f"{page}/delete/", {"post": "yes"}).status_code == 302
