"""A tenant is opened for an hour to someone who has no role for it, once both logs have recorded their reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from html import unescape
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from audit.control.models import ControlAuditLog
from audit.models import AuditLog
from tenants.models import RoleAssignment, TemporaryAccess, Tenant, TenantStatus
from tenants.routing.context import tenant_context
from tests.support.staff import Filled, fill_tenant, give_role, make_user

ADD = "/admin/tenants/temporaryaccess/add/"
LIST = "/admin/tenants/temporaryaccess/"
REASON = "Ticket 4711: the customer asks"


@dataclass
class Desk:
    """An operator of one tenant, who needs to see another."""

    user: User
    client: Client
    ours: Filled
    theirs: Filled

    def ask(self, tenant_id: str, **values: str) -> Any:
        return self.client.post(ADD, {"tenant_id": tenant_id, "role": "viewer", "reason": REASON, **values})

    @property
    def access(self) -> TemporaryAccess:
        return TemporaryAccess.objects.get(user=self.user)


@pytest.fixture(scope="module")
def made() -> Iterator[tuple[Filled, Filled]]:
    from tenants.lifecycle.create import tenant_create
    from tests.support.tenant_fixtures import remove

    tenants = [tenant_create(name=f"reason {uuid4().hex[:12]}") for _number in range(2)]
    yield fill_tenant(tenants[0]), fill_tenant(tenants[1])
    for tenant in tenants:
        remove(tenant)


@pytest.fixture
def desk(made: tuple[Filled, Filled]) -> Iterator[Desk]:
    user, client = make_user(is_superuser=False), Client()
    client.force_login(user)
    give_role(user, "operator", tenant=made[0].tenant)
    yield Desk(user, client, *made)
    TemporaryAccess.objects.filter(user=user).delete()
    Tenant.objects.filter(pk=made[1].tenant.pk).update(status=TenantStatus.ACTIVE, is_active=True)
    user.delete()


def entries(user: User, tenant_id: str) -> list[tuple[str, dict[str, object] | None]]:
    mine = ControlAuditLog.objects.filter(user_id=f"staff:{user.username}", resource_id=tenant_id).order_by("id")
    return list(mine.values_list("action", "details"))


def test_a_reason_opens_the_tenant_and_stands_in_both_logs(desk: Desk) -> None:
    foreign = desk.theirs.tenant.id
    assert desk.client.get(desk.theirs.site).status_code == 404
    assert desk.ask(foreign)["Location"] == desk.theirs.site
    asked, opened = entries(desk.user, foreign)
    assert asked == ("tenant.access.ask", {"role": "viewer", "reason": REASON})
    until = desk.access.expires_at
    assert opened == ("tenant.access.open", {"role": "viewer", "reason": REASON, "until": until.isoformat()})
    with tenant_context(foreign):
        entry = AuditLog.objects.get(action="tenant.access.open", user_id=f"staff:{desk.user.username}")
        assert entry.details == opened[1]
    assert timedelta(minutes=59) < until - timezone.now() <= timedelta(hours=1)
    html = unescape(desk.client.get(desk.theirs.site).content.decode())
    assert "It is open to you as viewer until" in html and REASON in html
    assert desk.client.get(f"{desk.theirs.site}runs/run/").status_code == 200
    assert desk.client.get(f"{desk.theirs.site}runs/run/add/").status_code == 403
    assert "It is open to you" not in desk.client.get(desk.ours.site).content.decode()
    assert REASON in desk.client.get(LIST).content.decode()


def test_it_expires_by_itself_and_is_not_prolonged(desk: Desk) -> None:
    foreign = desk.theirs.tenant.id
    desk.ask(foreign)
    assert "You already have access to tenant" in unescape(desk.ask(foreign).content.decode())
    assert TemporaryAccess.objects.filter(user=desk.user).count() == 1
    past = timezone.now() - timedelta(seconds=1)
    TemporaryAccess.objects.filter(user=desk.user).update(opened_at=past - timedelta(hours=1), expires_at=past)
    assert desk.client.get(desk.theirs.site).status_code == 404
    assert "expired" in desk.client.get(LIST).content.decode()


def test_it_is_closed_from_the_tenants_site(desk: Desk) -> None:
    desk.ask(desk.theirs.tenant.id)
    close = f"{LIST}{desk.access.pk}/close/"
    assert close in desk.client.get(desk.theirs.site).content.decode()
    assert desk.client.post(close, {"_form_submitted": "on"}).status_code == 302
    assert desk.client.get(desk.theirs.site).status_code == 404
    assert entries(desk.user, desk.theirs.tenant.id)[-1][0] == "tenant.access.close"


@pytest.mark.parametrize("kind", ["unknown", "suspended", "deleting"])
def test_a_tenant_that_cannot_be_opened_is_one_sentence(desk: Desk, kind: str) -> None:
    """A nonexistent id and that of a closed tenant get the same answer, after the reason has been recorded."""
    tenant_id = desk.theirs.tenant.id if kind != "unknown" else f"none-{uuid4().hex[:8]}"
    if kind != "unknown":
        Tenant.objects.filter(pk=tenant_id).update(status=kind, is_active=False)
    html = unescape(desk.ask(tenant_id).content.decode())
    assert f"No tenant with the id '{tenant_id}' can be opened." in html
    assert [action for action, _details in entries(desk.user, tenant_id)] == ["tenant.access.ask"]
    assert not TemporaryAccess.objects.filter(user=desk.user).exists()


def test_without_a_reason_nothing_is_asked(desk: Desk) -> None:
    for values in (
        {"reason": ""},
        {"reason": "because"},
        {"reason": "  \u200b "},
        {"role": "administrator"},
        {"role": ""},
    ):
        assert desk.ask(desk.theirs.tenant.id, **values).status_code == 200
    assert entries(desk.user, desk.theirs.tenant.id) == []


def test_an_unreachable_database_leaves_it_closed(desk: Desk) -> None:
    """Nothing is open until the tenant's own log has its entry."""
    url = desk.theirs.tenant.database_url
    Tenant.objects.filter(pk=desk.theirs.tenant.pk).update(database_url=url.rsplit("/", 1)[0] + "/no_such_database")
    html = unescape(desk.ask(desk.theirs.tenant.id).content.decode())
    Tenant.objects.filter(pk=desk.theirs.tenant.pk).update(database_url=url)
    assert "its database cannot be used" in html
    assert desk.client.get(desk.theirs.site).status_code == 404


@pytest.mark.parametrize("role", ["viewer", "editor", "reviewer"])
def test_who_does_not_operate_tenants_opens_none(desk: Desk, role: str) -> None:
    RoleAssignment.objects.filter(user=desk.user).update(role=role)
    assert desk.client.get(ADD).status_code == 403
    assert desk.ask(desk.theirs.tenant.id).status_code == 403
    assert not TemporaryAccess.objects.filter(user=desk.user).exists()


def test_it_ends_with_the_role_that_allowed_it(desk: Desk) -> None:
    """Otherwise each access could open the next one, forever."""
    desk.ask(desk.theirs.tenant.id, role="operator")
    assert desk.client.get(desk.theirs.site).status_code == 200
    RoleAssignment.objects.filter(user=desk.user).delete()
    assert desk.client.get(desk.theirs.site).status_code == 404
    assert desk.client.get(ADD).status_code == 403


def test_others_neither_see_nor_close_it(desk: Desk) -> None:
    desk.ask(desk.theirs.tenant.id)
    other, client = make_user(is_superuser=False), Client()
    client.force_login(other)
    give_role(other, "administrator", tenant=desk.ours.tenant)
    address = f"{LIST}{desk.access.pk}/"
    assert REASON not in client.get(LIST).content.decode()
    client.post(f"{address}close/", {"_form_submitted": "on"})
    assert desk.access.closed_at is None
    give_role(other, "viewer", tenant=desk.theirs.tenant)
    assert REASON in client.get(LIST).content.decode()
    assert client.post(f"{address}close/", {"_form_submitted": "on"}).status_code == 403
    assert desk.access.closed_at is None
    give_role(other, "administrator", tenant=desk.theirs.tenant)
    assert client.post(f"{address}close/", {"_form_submitted": "on"}).status_code == 302
    assert TemporaryAccess.objects.filter(user=desk.user, closed_at__isnull=False).exists()
    other.delete()
