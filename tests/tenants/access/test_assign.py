"""Commands grant and revoke roles, and each change is audited."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import translation

from audit.control.models import ControlAuditLog
from tenants.access.assign import role_in_words, roles_of
from tenants.access.visible import is_permitted
from tenants.models import RoleAssignment, Tenant, TenantGroup


def run(name: str, *arguments: str) -> Any:
    out = StringIO()
    call_command(name, *arguments, "--json", stdout=out)
    return json.loads(out.getvalue())


def may_edit(user: User, tenant: Tenant) -> bool:
    return is_permitted(User.objects.get(pk=user.pk), "prompts.change_prompt", tenant.id)


def test_a_role_is_given_counted_listed_and_taken_back(staff: User, tenant: Tenant) -> None:
    group = TenantGroup.objects.create(name=f"group {uuid4().hex[:8]}")
    group.tenants.add(tenant)
    places = {
        f"tenant {tenant.id}": ["--tenant-id", tenant.id],
        f"group {group.name}": ["--group", group.name],
        "all": ["--all-tenants"],
    }
    for place, given in places.items():
        arguments = ["--username", staff.username, "--role", "editor", *given]
        document = {"username": staff.username, "role": "editor", "for": place}
        assert run("staff_grant", *arguments) == {**document, "granted": True} and may_edit(staff, tenant)
        assert run("staff_grant", *arguments) == {**document, "granted": False}
        [row] = [row for row in run("staff_list") if row["username"] == staff.username]
        assert (row["roles"], row["active"], row["superuser"]) == ([f"editor {place}"], True, False)
        assert run("staff_revoke", *arguments) == {**document, "revoked": True} and not may_edit(staff, tenant)
        assert run("staff_revoke", *arguments) == {**document, "revoked": False}
        entries = ControlAuditLog.objects.filter(action="user.roles", resource_id=str(staff.pk)).order_by("-sequence")
        role = f"editor {place}"
        assert list(entries.values_list("details__changes__roles", flat=True)[:2]) == [[[role], []], [[], [role]]]
        assert entries[0].user_id.startswith("operator:")
    assert ControlAuditLog.objects.filter(action="user.roles", resource_id=str(staff.pk)).count() == 6
    group.delete()


def test_a_role_has_its_words_on_pages_and_its_codes_in_entries(staff: User, tenant: Tenant) -> None:
    group = TenantGroup.objects.create(name=f"group {uuid4().hex[:8]}")
    for place in ({"scope": "all"}, {"scope": "group", "group": group}, {"scope": "tenant", "tenant": tenant}):
        RoleAssignment.objects.create(user=staff, role="editor", **place)
    recorded = roles_of(staff.pk)
    assert recorded == ["editor all", f"editor group {group.name}", f"editor tenant {tenant.id}"]
    with translation.override("ja"):
        shown = [str(one) for one in RoleAssignment.objects.filter(user=staff)]
        assert shown == ["編集者: すべてのテナント", f"編集者: {group.name}", f"編集者: {tenant.id}"]
        assert [role_in_words(one) for one in recorded] == shown
    RoleAssignment.objects.filter(user=staff).delete()
    group.delete()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--username", "no-one", "--role", "viewer", "--all-tenants"], "There is no account 'no-one'."),
        (["--role", "viewer", "--group", "no such"], "There is no group of tenants named 'no such'."),
        (["--role", "viewer", "--tenant-id", "no-such"], "no-such"),
        (["--role", "owner", "--all-tenants"], "invalid choice: 'owner'"),
        (["--role", "viewer"], "one of the arguments"),
        (["--role", "viewer", "--all-tenants", "--tenant-id", "a"], "not allowed with argument"),
    ],
)
@pytest.mark.parametrize("name", ["staff_grant", "staff_revoke"])
def test_what_cannot_be_given_is_refused(staff: User, name: str, arguments: list[str], message: str) -> None:
    if "--username" not in arguments:
        arguments = ["--username", staff.username, *arguments]
    with pytest.raises(CommandError, match=message):
        call_command(name, *arguments)
    assert not RoleAssignment.objects.filter(user=staff).exists()


def test_they_say_what_was_done(staff: User, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--username", staff.username, "--role", "reviewer", "--all-tenants"]
    for name, sentences in {
        "staff_grant": ("now has the role reviewer for all tenants.", "already has the role"),
        "staff_revoke": ("no longer has the role reviewer for all tenants.", "did not have the role"),
    }.items():
        for sentence in sentences:
            out = StringIO()
            call_command(name, *arguments, stdout=out)
            assert sentence in out.getvalue()
    capsys.readouterr()
    call_command("staff_list")
    assert staff.username in capsys.readouterr().out
