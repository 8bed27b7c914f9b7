"""Roles have only permissions that exist, and a migration gives accounts roles according to their permissions."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission, User
from django.db import connection

from tenants.access.explained import LINES, roles_explained
from tenants.access.roles import ABOUT_TENANTS, ABOUT_THE_INSTALLATION, roles_with
from tenants.models import Role, RoleAssignment
from tests.support.staff import make_user

# Permissions other than the four that Django creates for each model.
OWN = {
    "tenants.view_costs",
    "runs.review_run",
    *(f"tenants.{verb}_tenant" for verb in ("export", "backup", "restore", "drill", "copy", "open_other")),
    "tenants.approve_operation",
    "tenants.migrate_fleet",
    "tenants.view_operationrequest",
    "prompts.copy_prompt",
    "llm.check_provider",
    "llm.set_prices",
    "audit_control.export_controlauditlog",
    "sign_in.manage_sign_ins",
}
MIGRATION = importlib.import_module("tenants.migrations.0016_roles_of_accounts")


def test_every_permission_of_a_role_exists() -> None:
    djangos = {
        f"{model._meta.app_label}.{verb}_{model._meta.model_name}"
        for model in apps.get_models()
        for verb in model._meta.default_permissions
    }
    given = set().union(*ABOUT_TENANTS.values(), *ABOUT_THE_INSTALLATION.values())
    assert given - djangos - OWN == set()


def test_a_permission_is_about_a_tenant_or_about_the_installation() -> None:
    assert set().union(*ABOUT_TENANTS.values()) & set().union(*ABOUT_THE_INSTALLATION.values()) == set()
    for table in (ABOUT_TENANTS, ABOUT_THE_INSTALLATION):
        assert set(table) == set(Role.values)
        assert all(table[Role.VIEWER] <= table[role] <= table[Role.ADMINISTRATOR] for role in Role)


def test_each_line_of_the_explanation_is_a_permission() -> None:
    assert [name for _text, name in LINES if not roles_with(name)] == []


def test_opening_another_tenant_is_not_listed_under_the_roles_own() -> None:
    own, others, everywhere = roles_explained()["parts"]
    assert [title for title, _lines in (own, others, everywhere)] == [
        "For the role's tenants",
        "For other tenants",
        "Only if the role is for all tenants",
    ]
    assert [text for text, _held in others[1]] == ["Open another tenant for an hour, stating a reason"]
    assert len(own[1]) + len(others[1]) + len(everywhere[1]) == len(LINES)


def test_no_role_may_change_servers() -> None:
    """The admin allows that to superusers only."""
    assert [verb for verb in ("add", "change", "delete") if roles_with(f"tenants.{verb}_databaseserver")] == []


# -- accounts of an earlier release ----------------------------------------------------------------------------------


@pytest.fixture
def account() -> Iterator[User]:
    user = make_user(is_superuser=False)
    yield user
    user.delete()


def role_after_migration(user: User, *permissions: str) -> str | None:
    """Give a user Django's permissions, half of them through a group; return what the migration makes of them.

    This is the role and its scope, such as "viewer all", or None.
    """
    RoleAssignment.objects.filter(user=user).delete()
    wanted = {tuple(name.split(".", 1)) for name in permissions}
    found = [
        permission
        for permission in Permission.objects.select_related("content_type")
        if (permission.content_type.app_label, permission.codename) in wanted
    ]
    assert len(found) == len(wanted)
    group, _created = Group.objects.get_or_create(name="earlier")
    group.permissions.set(found[::2])
    user.groups.set([group])
    user.user_permissions.set(found[1::2])
    MIGRATION.give_roles(apps, SimpleNamespace(connection=connection))
    group.delete()
    assigned = RoleAssignment.objects.filter(user=user).first()
    return f"{assigned.role} {assigned.scope}" if assigned else None


def test_an_account_gets_the_greatest_role_that_it_had_all_permissions_of(account: User) -> None:
    viewer = set(MIGRATION.VIEWER)
    assert role_after_migration(account) is None
    assert role_after_migration(account, "runs.view_run", "runs.change_run") is None
    assert role_after_migration(account, *viewer - {"runs.view_run"}) is None
    assert role_after_migration(account, *viewer) == "viewer all"
    assert role_after_migration(account, *viewer, "runs.change_run") == "viewer all"
    assert role_after_migration(account, *MIGRATION.EDITOR) == "editor all"
    assert role_after_migration(account, *MIGRATION.EDITOR, *MIGRATION.OPERATOR) == "operator all"
    assert role_after_migration(account, *MIGRATION.ADMINISTRATOR) == "administrator all"


def test_superusers_and_visitors_get_no_role(account: User) -> None:
    User.objects.filter(pk=account.pk).update(is_staff=False)
    assert role_after_migration(account, *MIGRATION.ADMINISTRATOR) is None
