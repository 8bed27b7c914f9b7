"""The list of anchors shows only anchors of logs that the person may see; the pages of the logs link to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.test import Client

from audit.admin import log_state
from audit.control.models import AuditAnchor, ControlAuditLog
from audit.verification.anchor import audit_anchor
from audit.verification.verify import audit_verify
from tenants.models import Tenant
from tests.support.staff import give_role, make_user

ANCHORS = "/admin/audit_control/auditanchor/"


@pytest.fixture
def superuser() -> Iterator[User]:
    """A superuser among the staff; in other tests of the logs, `superuser` is a database connection."""
    user = make_user(is_superuser=True)
    yield user
    user.delete()


@pytest.fixture
def anchored(tenant_pair: tuple[Tenant, Tenant]) -> tuple[Tenant, Tenant]:
    audit_anchor()
    return tenant_pair


def logs_on(client: Client, query: str = "") -> set[str]:
    response = client.get(ANCHORS + query)
    assert response.status_code == 200
    return set(response.context["cl"].queryset.values_list("tenant_id", flat=True))


def test_it_shows_where_each_log_ended(browser: Client, anchored: tuple[Tenant, Tenant]) -> None:
    ours, theirs = (tenant.id for tenant in anchored)
    assert {"", ours, theirs} <= logs_on(browser)
    assert logs_on(browser, f"?q={ours}") == {ours}
    assert logs_on(browser, "?log=control") == {""}
    assert "" not in logs_on(browser, "?log=tenants")
    anchor = AuditAnchor.objects.filter(tenant_id=ours).latest("id")
    html = browser.get(f"{ANCHORS}{anchor.pk}/change/").content.decode()
    for value in (ours, anchor.hash, anchor.guard_hash, str(anchor.run), str(anchor.identity)):
        assert value in html
    assert browser.post(f"{ANCHORS}{anchor.pk}/change/", {}).status_code == 403
    for page in ("add/", f"{anchor.pk}/delete/"):
        assert browser.get(ANCHORS + page).status_code == 403, page


def test_every_verification_covers_the_control_log(tenant: Tenant) -> None:
    audit_verify(tenant_id=tenant.id)
    last = ControlAuditLog.objects.filter(action="audit.verify").latest("id")
    assert log_state("default")["verified"] == last == log_state(tenant.id)["verified"]


def test_a_person_sees_those_of_their_tenants_alone(anchored: tuple[Tenant, Tenant]) -> None:
    ours, theirs = anchored
    user = make_user(is_superuser=False)
    client = Client()
    client.force_login(user)
    assert client.get(ANCHORS).status_code == 403
    give_role(user, "viewer", tenant=ours)
    assert logs_on(client) == {ours.id}
    foreign = AuditAnchor.objects.filter(tenant_id=theirs.id).latest("id")
    control = AuditAnchor.objects.filter(tenant_id="").latest("id")
    for anchor in (foreign, control):
        assert client.get(f"{ANCHORS}{anchor.pk}/change/").status_code == 404
    assert logs_on(client, f"?q={theirs.id}") == set()
    give_role(user, "viewer")
    assert {"", ours.id, theirs.id} <= logs_on(client)
    user.delete()


def test_the_logs_pages_and_the_menu_link_it(browser: Client, anchored: tuple[Tenant, Tenant]) -> None:
    tenant, _other = anchored
    control = browser.get("/admin/audit_control/controlauditlog/").content.decode()
    # In the menu, and beside the log's state.
    assert control.count(f'href="{ANCHORS}"') == 2
    own = browser.get(f"/t/{tenant.id}/admin/audit/auditlog/").content.decode()
    assert f'href="{ANCHORS}?q={tenant.id}"' in own
