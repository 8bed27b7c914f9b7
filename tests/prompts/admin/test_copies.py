"""Copies of prompts that staff request in the admin: the preview, the copy, which must match it, and the undo."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from audit.control.models import ControlAuditLog
from audit.log.actor import acting_as
from audit.models import AuditLog
from config.base.approvals import COPY_ALL
from prompts.errors import CopyNotUndone
from prompts.fleet.undo import prompt_copy_undo
from prompts.models import Prompt
from tenants.approvals.decide import approval_approve
from tenants.models import (
    Approval,
    ApprovalStatus,
    MigrationBatch,
    OperationRequest,
    RequestStatus,
    Tenant,
    TenantGroup,
)
from tenants.requests.work import operations_work
from tenants.routing.context import tenant_context
from tests.config.site.forms import Browser
from tests.prompts.fleet.copies import TEXT, active_text, make_source, newest_batch, rows_of
from tests.support.staff import give_role, make_user
from tests.support.tenant_fixtures import MakeTenant
from tests.tenants.conftest import empty_fleet, no_other_requests

__all__ = ["empty_fleet", "no_other_requests"]

pytestmark = pytest.mark.usefixtures("no_other_requests")


@pytest.fixture
def trio(make_tenant: MakeTenant) -> Iterator[list[Tenant]]:
    """Three tenants, the first of which has a version that the others lack."""
    tenants = [make_tenant() for _ in range(3)]
    make_source(tenants[0])
    yield tenants
    # What they leave in the control database would block, or be seen by, other tests.
    batches = MigrationBatch.objects.filter(tenants__tenant_id__in=[one.pk for one in tenants])
    batches.delete()
    OperationRequest.objects.filter(tenant_id=tenants[0].pk).delete()


@pytest.fixture
def log_in() -> Iterator[Callable[..., tuple[Browser, User]]]:
    made: list[User] = []

    def logged_in(*roles: tuple[str, Tenant | None]) -> tuple[Browser, User]:
        user = make_user(is_superuser=False)
        made.append(user)
        for role, tenant in roles:
            give_role(user, role, tenant=tenant)
        client = Browser()
        client.force_login(user)
        return client, user

    yield logged_in
    for user in made:
        user.delete()


LogIn = Callable[..., tuple[Browser, User]]


def site(tenant: Tenant) -> str:
    return f"/t/{tenant.id}/admin/prompts/prompt/"


def request_of(response: Any) -> OperationRequest:
    assert response.status_code == 302, response.content.decode()
    return OperationRequest.objects.get(pk=response["Location"].split("/")[-3])


def preview(browser: Client, source: Tenant, targets: list[Tenant], **form: Any) -> OperationRequest:
    """Request a preview, by default of copying all prompts, and make it as a worker does; return the request."""
    chosen = {"what": "", "to": "some", "tenants": [one.pk for one in targets], "reason": ""}
    return work(request_of(browser.post(f"{site(source)}copy_all_to_tenants/", {**chosen, **form})))


def report(source: Tenant, request: OperationRequest) -> str:
    return f"{site(source)}copies/{request.pk}/"


def follow(browser: Client, source: Tenant, request: OperationRequest) -> OperationRequest:
    """Request the copy that a preview showed, or the undo of a copy; carry it out and return the new request."""
    return work(request_of(browser.post(report(source, request), {"reason": "as agreed"})))


def work(request: OperationRequest) -> OperationRequest:
    assert operations_work("worker@test/1", request.pk) == 1
    request.refresh_from_db()
    return request


def counted(request: OperationRequest) -> tuple[str, int, int]:
    assert request.status == RequestStatus.DONE, request.error
    return request.status, request.result["tenants"], request.result["changed"]  # type: ignore[index]


def test_a_preview_then_the_copy_then_its_undo(browser: Client, superuser: User, trio: list[Tenant]) -> None:
    source, *others = trio
    make_source(others[1])
    with tenant_context(source):
        version = Prompt.objects.get(step="draft", is_active=True)
    assert "/copy_to_tenants/" in browser.get(f"{site(source)}{version.pk}/change/").content.decode()
    assert "/copy_all_to_tenants/" in browser.get(site(source)).content.decode()
    before = rows_of(trio)
    seen = preview(browser, source, others)
    assert counted(seen) == ("done", 2, 1)
    assert rows_of(trio) == before and active_text(others[0]) != TEXT
    address = report(source, seen)
    assert address in browser.get(f"/admin/tenants/operationrequest/{seen.pk}/progress/").content.decode()
    html = browser.get(address).content.decode()
    assert "1 tenant would change" in html and "1 tenant has the versions already" in html
    assert others[0].id in html and others[1].id not in html
    assert "v1" in html and "v2" in html
    shown = browser.get(f"{address}?tenant={others[0].id}&step=draft").content.decode()
    assert "+Copied: {{ keyword }}" in shown and f"--- {others[0].id} draft v1" in shown

    copied = follow(browser, source, seen)
    assert counted(copied) == ("done", 2, 1)
    assert active_text(others[0]) == TEXT and rows_of([others[1]]) == {others[1].id: before[others[1].id]}
    assert "that was made from this preview" in browser.get(address).content.decode()
    assert browser.post(address, {"reason": "again"}).status_code == 403
    with tenant_context(others[0]) as alias:
        entries = AuditLog.objects.using(alias).order_by("-sequence")[:3]
        found = {(one.action, one.user_id, one.operation_id) for one in entries}
    who = f"staff:{superuser.username}"
    assert found == {(name, who, str(copied.pk)) for name in ("prompt.create", "prompt.activate", "prompt.copy")}

    undone = follow(browser, source, copied)
    assert undone.kind == "prompt_undo" and counted(undone) == ("done", 1, 1)
    assert active_text(others[0]) != TEXT
    assert browser.post(report(source, copied), {"reason": "again"}).status_code == 403
    for request in (seen, copied, undone):
        for language in ("en", "ja"):
            headers = {"accept-language": language}
            assert browser.get(report(source, request), headers=headers).status_code == 200
            page = browser.get(f"/admin/tenants/operationrequest/{request.pk}/change/", headers=headers)
            assert page.status_code == 200


def test_the_logs_name_the_versions_and_hold_no_template(browser: Client, trio: list[Tenant]) -> None:
    source, *others = trio
    seen = preview(browser, source, others)
    copied = follow(browser, source, seen)
    asked = {"details__operation__in": [str(seen.pk), str(copied.pk)]}
    entries = ControlAuditLog.objects.filter(operation_id__in=[str(seen.pk), str(copied.pk)])
    assert [one.action for one in entries.order_by("sequence")] == [
        *("operation.start", "prompt.copy.preview", "operation.end"),
        *("operation.start", "prompt.copy", "prompt.copy.commit", "prompt.copy.complete", "operation.end"),
    ]
    held = [*entries, *ControlAuditLog.objects.filter(action="operation.request", **asked)]
    # An entry about one tenant is shown to its people, who may not see the others.
    assert not {one.resource_id for one in held} & {one.id for one in trio}
    stored = json.dumps([[one.details for one in held], seen.result, copied.arguments, _changes(seen)])
    assert "Copied:" not in stored and others[0].id in stored


def _changes(request: OperationRequest) -> list[Any]:
    batch = MigrationBatch.objects.get(pk=request.result["batch"])  # type: ignore[index]
    return list(batch.tenants.values_list("changes", flat=True))


@pytest.mark.parametrize("what", ["older", "draft", "all"])
def test_one_version_one_step_or_all_steps(browser: Client, trio: list[Tenant], what: str) -> None:
    source, *others = trio
    make_source(source, "Newest {{ keyword }}")
    make_source(source, "New step {{ keyword }}", step="teaser")
    with tenant_context(source):
        older = Prompt.objects.get(step="draft", version=2)
    chosen = {"older": "draft:2", "draft": "draft", "all": ""}[what]
    form = {"what": chosen, "to": "some", "tenants": [others[0].pk], "reason": ""}
    page = f"{site(source)}{older.pk}/copy_to_tenants/"
    assert 'value="draft:2" selected' in browser.get(page).content.decode()
    seen = work(request_of(browser.post(page, form)))
    follow(browser, source, seen)
    assert active_text(others[0]) == (TEXT if what == "older" else "Newest {{ keyword }}")
    with tenant_context(others[0]) as alias:
        assert Prompt.objects.using(alias).filter(step="teaser", is_active=True).exists() == (what == "all")


def test_a_copy_is_refused_if_a_tenant_is_no_longer_as_previewed(browser: Client, trio: list[Tenant]) -> None:
    source, *others = trio
    seen = preview(browser, source, others)
    make_source(others[1], "Meanwhile {{ keyword }}")
    before = rows_of(others)
    html = browser.get(f"{report(source, seen)}?tenant={others[1].id}&step=draft").content.decode()
    assert "The prompt has changed since the preview, so the difference cannot be shown." in html
    assert "Meanwhile" not in html
    refused = follow(browser, source, seen)
    assert (refused.status, refused.error_code) == (RequestStatus.FAILED, "prompt_copy_rolled_back")
    assert refused.error.splitlines() == [
        "No tenant was changed.",
        f"Tenant {others[1].id}: The copy would no longer change it as previewed; preview the copy again.",
    ]
    assert rows_of(others) == before


def test_a_copy_is_refused_if_the_source_is_no_longer_as_previewed(browser: Client, trio: list[Tenant]) -> None:
    source, *others = trio
    seen = preview(browser, source, others, what="draft")
    make_source(source, "Newest {{ keyword }}")
    before = rows_of(others)
    refused = follow(browser, source, seen)
    assert (refused.status, refused.error_code) == (RequestStatus.REFUSED, "prompt_changed")
    assert refused.error.startswith("The versions to copy are no longer those that were previewed.")
    assert rows_of(others) == before


def test_a_preview_cannot_be_undone(browser: Client, trio: list[Tenant]) -> None:
    seen = preview(browser, trio[0], trio[1:])
    assert seen.result is not None
    with pytest.raises(CopyNotUndone):
        prompt_copy_undo(batch_id=seen.result["batch"])


def test_a_foreign_tenant_is_like_one_that_does_not_exist(trio: list[Tenant], log_in: LogIn) -> None:
    source, own, foreign = trio
    browser, _user = log_in(("editor", source), ("editor", own))
    page = f"{site(source)}copy_all_to_tenants/"
    html = browser.get(page).content.decode()
    assert own.id in html and foreign.id not in html and 'value="all"' not in html
    answers = []
    for target in (foreign.id, "no-such-tenant"):
        form = {"what": "", "to": "some", "tenants": [own.pk, target], "reason": ""}
        response = browser.post(page, form)
        answers.append((response.status_code, response.content.decode().replace(target, "ID").count("not one of")))
    assert answers == [(200, 1), (200, 1)]
    assert browser.post(page, {"what": "", "to": "all", "reason": ""}).status_code == 200
    assert not OperationRequest.objects.filter(tenant_id=source.pk).exists()


@pytest.mark.parametrize("role", ["viewer", "reviewer", "operator"])
def test_only_who_edits_both_may_copy(trio: list[Tenant], log_in: LogIn, role: str) -> None:
    source, own, other = trio
    browser, _user = log_in((role, source), ("editor", own))
    assert browser.get(f"{site(source)}copy_all_to_tenants/").status_code == 403
    browser, _user = log_in(("editor", source), ("editor", own), (role, other))
    html = browser.get(f"{site(source)}copy_all_to_tenants/").content.decode()
    assert own.id in html and other.id not in html


def test_a_report_is_read_only_by_who_sees_all_its_tenants(trio: list[Tenant], log_in: LogIn) -> None:
    source, own, other = trio
    editor, user = log_in(("editor", source), ("editor", own))
    everyone, _user = log_in(("editor", None))
    narrow, broad = preview(editor, source, [own]), preview(everyone, source, [own, other])
    viewer, _user = log_in(("viewer", source), ("viewer", own))
    for client in (editor, viewer):
        for request, status in ((narrow, 200), (broad, 404)):
            assert client.get(report(source, request)).status_code == status
            page = f"/admin/tenants/operationrequest/{request.pk}/progress/"
            assert client.get(page).status_code == status
        assert str(broad.pk) not in client.get("/admin/tenants/operationrequest/").content.decode()
        assert str(broad.pk) not in client.get(f"/admin/tenants/tenant/{source.pk}/change/").content.decode()
    assert viewer.post(report(source, narrow), {"reason": "x"}).status_code == 403
    assert 'method="post" novalidate' not in viewer.get(report(source, narrow)).content.decode()
    # On another tenant's site, it does not exist.
    assert everyone.get(report(own, narrow)).status_code == 404
    # What was requested is not carried out by someone who has lost the role meanwhile.
    copy = request_of(editor.post(report(source, narrow), {"reason": "x"}))
    user.role_assignments.filter(tenant=own).update(role="viewer")
    work(copy)
    assert (copy.status, copy.error_code) == (RequestStatus.REFUSED, "operation_not_allowed")
    user.role_assignments.filter(tenant=own).delete()
    assert editor.get(report(source, narrow)).status_code == 404
    assert active_text(own) != TEXT


def test_to_a_group(trio: list[Tenant], log_in: LogIn) -> None:
    source, member, other = trio
    group = TenantGroup.objects.create(name=f"group of {member.id}")
    group.tenants.add(source, member)
    foreign = TenantGroup.objects.create(name=f"group of {other.id}")
    foreign.tenants.add(other)
    browser, user = log_in()
    give_role(user, "editor", group=group)
    try:
        html = browser.get(f"{site(source)}copy_all_to_tenants/").content.decode()
        assert group.name in html and foreign.name not in html
        seen = preview(browser, source, [], to=f"group-{group.pk}")
        assert seen.arguments["tenants"] == [member.pk]
        follow(browser, source, seen)
        assert active_text(member) == TEXT and active_text(other) != TEXT
        for form in (
            {"to": f"group-{foreign.pk}"},
            {"to": "some"},
            {"to": f"group-{group.pk}", "tenants": [member.pk]},
        ):
            answer = browser.post(f"{site(source)}copy_all_to_tenants/", {"what": "", "reason": "", **form})
            assert answer.status_code == 200
    finally:
        user.role_assignments.all().delete()
        group.delete()
        foreign.delete()


@pytest.mark.usefixtures("empty_fleet")
def test_to_all_tenants_needs_a_role_for_all_and_if_set_a_second_person(
    make_tenant: MakeTenant, settings: Settings, log_in: LogIn
) -> None:
    settings.TWO_PERSON_OPERATIONS = [COPY_ALL]
    source, *others = (make_tenant() for _ in range(3))
    make_source(source)
    asks, user = log_in(("administrator", None))
    approves, second = log_in(("administrator", None))
    for form in ({"to": "all"}, {"to": "some", "tenants": [one.pk for one in others]}):
        seen = preview(asks, source, [], **{"tenants": [], **form})
        assert counted(seen) == ("done", 2, 2)
        assert asks.post(report(source, seen), {"reason": ""}).status_code == 200  # the other person reads the reason
        response = asks.post(report(source, seen), {"reason": "a better draft"}, follow=True)
        assert "A second person has to approve this." in response.content.decode()
        approval = Approval.objects.get(requester_id=user.pk, status=ApprovalStatus.REQUESTED)
        page = approves.get(f"/admin/tenants/approval/{approval.pk}/change/").content.decode()
        assert report(source, seen) in page and "draft v2" in page
        assert not OperationRequest.objects.filter(arguments__dry_run=False, tenant_id=source.pk).exists()
        if form["to"] == "all":
            approval.delete()
    with acting_as(f"staff:{second.username}"):
        approval_approve(approval_id=approval.pk, user=second, digest=approval.digest)
    copied = work(request_of(asks.post(f"/admin/tenants/approval/{approval.pk}/start/")))
    assert counted(copied) == ("done", 2, 2)
    assert [active_text(one) for one in others] == [TEXT, TEXT]
    approval.refresh_from_db()
    assert (approval.status, approval.used_for) == (ApprovalStatus.USED, str(copied.pk))
    Approval.objects.filter(pk=approval.pk).delete()
    OperationRequest.objects.filter(tenant_id=source.pk).delete()


def test_the_pages_ask_no_tenants_database_but_the_sources_and_a_named_one(browser: Client, trio: list[Tenant]) -> None:
    source, *others = trio
    seen = preview(browser, source, others)
    for one in others:
        connections[one.alias].close() if one.alias in connections.settings else None
    with CaptureQueriesContext(connections["default"]) as queries:
        browser.get(report(source, seen))
    assert len(queries) <= 30
    assert not [one for one in others if one.alias in connections.settings and connections[one.alias].connection]


def test_a_preview_of_a_tenant_that_cannot_be_changed_records_nothing(browser: Client, trio: list[Tenant]) -> None:
    source, lost, other = trio
    url = lost.database_url.rsplit("/", 1)[0] + "/no_such_database"
    before = newest_batch().pk if MigrationBatch.objects.exists() else None
    Tenant.objects.filter(pk=lost.pk).update(database_url=url)
    try:
        refused = preview(browser, source, [lost, other])
    finally:
        Tenant.objects.filter(pk=lost.pk).update(database_url=lost.database_url)
    assert (refused.status, refused.error_code) == (RequestStatus.REFUSED, "prompt_copy_rolled_back")
    assert f"Tenant {lost.id}" in refused.error
    assert (newest_batch().pk if MigrationBatch.objects.exists() else None) == before
