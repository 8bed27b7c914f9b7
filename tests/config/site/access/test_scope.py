"""A person sees the tenants of their roles and no others: a foreign tenant looks like one that does not exist."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.http import StreamingHttpResponse
from django.test import Client, RequestFactory

from audit.log.entries import record
from audit.verification.anchor import audit_anchor
from tenants.access.visible import tenants_permitted, tenants_visible
from tenants.errors import UnknownTenant
from tenants.models import RoleAssignment, Tenant, TenantGroup, TenantStatus
from tenants.routing.context import tenant_context
from tenants.routing.middleware import TenantMiddleware
from tests.support.staff import Filled, fill_tenant, give_role, make_user

UNKNOWN = "no-such-tenant"


@dataclass
class Desk:
    """A person and two tenants; each test gives the person the roles that it needs."""

    user: User
    client: Client
    ours: Filled
    theirs: Filled

    def same_as_unknown(self, address: str) -> str:
        """Require the same 404 page for the foreign tenant and for an unknown one at this address; return the page."""
        foreign, unknown = self.theirs.tenant.id, UNKNOWN
        got = [(self.client.get(address.format(tenant)), tenant) for tenant in (foreign, unknown)]
        seen = [
            (answer.status_code, answer.headers.get("Location", ""), answer.content.decode().replace(tenant, "ID"))
            for answer, tenant in got
        ]
        assert seen[0] == seen[1], address
        assert seen[0][0] == 404, address
        return seen[0][2]


@pytest.fixture(scope="module")
def made() -> Iterator[Desk]:
    from tenants.lifecycle.create import tenant_create
    from tests.support.tenant_fixtures import remove

    tenants = [tenant_create(name=f"scope {uuid4().hex[:12]}") for _number in range(2)]
    user, client = make_user(is_superuser=False), Client()
    client.force_login(user)
    yield Desk(user, client, *map(fill_tenant, tenants))
    user.delete()
    for tenant in tenants:
        remove(tenant)


@pytest.fixture
def desk(made: Desk) -> Iterator[Desk]:
    yield made
    RoleAssignment.objects.filter(user=made.user).delete()
    TenantGroup.objects.all().delete()
    Tenant.objects.filter(pk=made.theirs.tenant.pk).update(status=TenantStatus.ACTIVE, is_active=True)


def fresh(user: User) -> User:
    """Return the user as the next request loads them."""
    return User.objects.get(pk=user.pk)


def ids(desk: Desk, *permissions: str) -> set[str]:
    both = {desk.ours.tenant.id, desk.theirs.tenant.id}
    found = tenants_permitted(fresh(desk.user), *permissions) if permissions else tenants_visible(fresh(desk.user))
    return both & set(found.values_list("pk", flat=True))


# -- what a role is for ----------------------------------------------------------------------------------------------


def test_a_role_counts_for_its_tenants_alone(desk: Desk) -> None:
    ours, theirs = desk.ours.tenant, desk.theirs.tenant
    assert ids(desk) == set()
    give_role(desk.user, "viewer", tenant=ours)
    assert ids(desk) == {ours.id} and ids(desk, "runs.add_run") == set()
    group = TenantGroup.objects.create(name="both")
    group.tenants.add(ours, theirs)
    give_role(desk.user, "editor", group=group)
    assert ids(desk) == ids(desk, "runs.add_run") == {ours.id, theirs.id}
    group.tenants.remove(theirs)
    assert ids(desk) == {ours.id}
    give_role(desk.user, "operator")
    assert ids(desk) == ids(desk, "tenants.backup_tenant") == {ours.id, theirs.id}
    assert ids(desk, "runs.add_run") == {ours.id}


def test_a_permission_is_asked_for_the_tenant_in_question(desk: Desk) -> None:
    ours, theirs = desk.ours.tenant, desk.theirs.tenant
    give_role(desk.user, "operator", tenant=ours)
    give_role(desk.user, "viewer", tenant=theirs)
    user = fresh(desk.user)
    assert user.has_perm("tenants.change_tenant"), "for some tenant"
    assert user.has_perm("tenants.change_tenant", ours) and not user.has_perm("tenants.change_tenant", theirs)
    assert user.has_perm("tenants.view_costs", theirs)
    for tenant, may in ((ours, True), (theirs, False)):
        with tenant_context(tenant):
            assert user.has_perm("tenants.backup_tenant") == may
    address = "/admin/tenants/tenant/{}/{}/"
    assert "/suspend/" in desk.client.get(address.format(ours.id, "change")).content.decode()
    assert "/suspend/" not in desk.client.get(address.format(theirs.id, "change")).content.decode()
    assert desk.client.post(address.format(theirs.id, "suspend"), {"_form_submitted": "on"}).status_code == 403
    assert Tenant.objects.get(pk=theirs.pk).status == TenantStatus.ACTIVE


def test_what_all_tenants_share_takes_a_role_for_all_tenants(desk: Desk) -> None:
    group = TenantGroup.objects.create(name="both")
    group.tenants.set(Tenant.objects.all())
    give_role(desk.user, "administrator", group=group)
    user = fresh(desk.user)
    for permission in ("llm.view_llmmodel", "llm.set_prices", "tenants.add_tenant", "tenants.view_migrationbatch"):
        assert not user.has_perm(permission) and not user.has_perm(permission, desk.ours.tenant), permission
    give_role(desk.user, "viewer")
    user = fresh(desk.user)
    assert user.has_perm("llm.view_llmmodel") and not user.has_perm("llm.set_prices")


# -- a foreign tenant ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [TenantStatus.ACTIVE, TenantStatus.SUSPENDED, TenantStatus.DELETING])
def test_a_foreign_tenants_addresses_look_like_those_of_none(desk: Desk, status: TenantStatus) -> None:
    give_role(desk.user, "administrator", tenant=desk.ours.tenant)
    Tenant.objects.filter(pk=desk.theirs.tenant.pk).update(status=status, is_active=status == TenantStatus.ACTIVE)
    for address in ("/t/{}", "/t/{}/", "/t/{}/admin/", "/t/{}/admin/runs/run/", "/t/{}/nothing"):
        assert "There is no tenant" in desk.same_as_unknown(address)
    for action in ("change", "history", "delete", "suspend", "resume", "limit", "budget"):
        desk.same_as_unknown(f"/admin/tenants/tenant/{{}}/{action}/")
        assert desk.client.post(f"/admin/tenants/tenant/{desk.theirs.tenant.id}/{action}/").status_code == 404
    desk.same_as_unknown("/admin/tenants/tenantschema/{}/change/")


def test_no_page_of_the_control_site_names_a_foreign_tenant(desk: Desk) -> None:
    give_role(desk.user, "administrator", tenant=desk.ours.tenant)
    ours, theirs = desk.ours.tenant, desk.theirs.tenant
    for tenant in (ours, theirs):
        with transaction.atomic(using="default"):
            record(using="default", action="tenant.suspend", resource_type="tenant", resource_id=tenant.id)
    audit_anchor()
    for page in (
        *("", "tenants/", "tenants/tenant/", f"tenants/tenant/?q={theirs.id}", "tenants/tenantschema/"),
        *("tenants/backup/", "tenants/restore/", "tenants/erasure/", "audit_control/controlauditlog/"),
        *("audit_control/auditarchive/", "audit_control/archivedauditlog/", "audit_control/auditanchor/"),
    ):
        html = desk.client.get(f"/admin/{page}").content.decode().replace(f'value="{theirs.id}"', "")
        assert theirs.name not in html and f">{theirs.id}<" not in html and f"/{theirs.id}/" not in html, page
    response = desk.client.get("/admin/tenants/tenant/")
    counted = response.context["cl"]
    assert ours.name in response.content.decode() and counted.result_count == counted.full_result_count == 1
    log = desk.client.get("/admin/audit_control/controlauditlog/").context["cl"].queryset
    assert set(log.values_list("resource_type", "resource_id")) == {("tenant", ours.id)}


# -- sessions that are open ------------------------------------------------------------------------------------------


def test_a_role_that_is_taken_ends_at_the_next_request(desk: Desk) -> None:
    give_role(desk.user, "viewer", tenant=desk.ours.tenant)
    assert desk.client.get(desk.ours.site).status_code == 200
    RoleAssignment.objects.filter(user=desk.user).delete()
    assert desk.client.get(desk.ours.site).status_code == 404


def test_a_role_that_is_taken_ends_a_response_that_is_being_sent(desk: Desk) -> None:
    give_role(desk.user, "viewer", tenant=desk.ours.tenant)
    request = RequestFactory().get(desk.ours.site)
    request.user = fresh(desk.user)
    stream = iter(TenantMiddleware(lambda request: StreamingHttpResponse(["first", "second"]))(request))
    assert next(stream) == b"first"
    RoleAssignment.objects.filter(user=desk.user).delete()
    with pytest.raises(UnknownTenant):
        next(stream)
