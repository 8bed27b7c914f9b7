"""Operations that need a second person: none runs without a valid approval, and an approval works only once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connections, transaction
from django.test import Client
from django.utils.timezone import now
from pytest_django import Settings

from audit.control.models import ControlAuditLog
from audit.log.actor import acting_as
from audit.log.entries import record
from audit.models import AuditLog
from config.base.approvals import DELETE, EXPORT, KINDS, approval_given, require_approval
from config.base.command import operator_name
from config.base.errors import SeoGenError
from llm.models import LLMModel
from llm.prices.by_hand import prices_set
from llm.types import ModelPrices
from prompts.fleet.copy import prompt_copy
from tenants.approvals.decide import approval_approve, approval_reject, approval_request, approval_withdraw
from tenants.approvals.digest import digest_of
from tenants.approvals.people import may_approve, may_ask
from tenants.erasure.delete import tenant_delete
from tenants.errors import TenantUnreachable
from tenants.models import (
    Approval,
    ApprovalKind,
    ApprovalStatus,
    OperationRequest,
    RequestStatus,
    RoleAssignment,
    Tenant,
    TenantStatus,
)
from tenants.requests.work import operations_work
from tenants.routing.context import tenant_context
from tests.config.site.forms import Browser
from tests.support.staff import give_role, make_user
from tests.tenants.support.created import new_id

pytestmark = pytest.mark.usefixtures("no_other_requests")

PLAIN = {"accept_audit_loss": False, "accept_lost_backups": False}


def person(role: str) -> User:
    user = make_user(is_superuser=False)
    give_role(user, role)
    return user


def lose_roles(user: User) -> None:
    RoleAssignment.objects.filter(user=user).delete()


@dataclass
class World:
    tenant: Tenant
    other: Tenant
    asks: User
    approves: User
    folder: Path

    def ask(
        self, kind: str = DELETE, arguments: dict[str, Any] | None = None, tenant_id: str | None = None
    ) -> Approval:
        with acting_as(f"staff:{self.asks.username}", uuid4().hex):
            return approval_request(
                kind=kind,
                tenant_id=self.tenant.id if tenant_id is None else tenant_id,
                arguments=PLAIN if arguments is None else arguments,
                reason="a test",
                user=self.asks,
            )

    def approve(self, approval: Approval) -> Approval:
        with acting_as(f"staff:{self.approves.username}", uuid4().hex):
            return approval_approve(approval_id=approval.pk, user=self.approves, digest=approval.digest)

    def approved(self) -> Approval:
        return self.approve(self.ask())

    def use(self, approval_id: UUID, arguments: dict[str, Any] = PLAIN, kind: str = DELETE) -> None:
        with (
            acting_as(f"staff:{self.asks.username}", uuid4().hex),
            approval_given(approval_id),
            transaction.atomic(using="default"),
        ):
            require_approval(kind, self.tenant.id, arguments)

    def browser(self, user: User) -> Browser:
        client = Browser()
        client.force_login(user)
        return client


@pytest.fixture(scope="module")
def tenants() -> Iterator[tuple[Tenant, Tenant]]:
    from tenants.lifecycle.create import tenant_create
    from tests.support.tenant_fixtures import remove

    made = tenant_create(name=f"two {uuid4().hex[:8]}"), tenant_create(name=f"two {uuid4().hex[:8]}")
    yield made
    for tenant in made:
        remove(tenant)


@pytest.fixture
def world(tenants: tuple[Tenant, Tenant], settings: Settings, tmp_path: Path) -> Iterator[World]:
    settings.TWO_PERSON_OPERATIONS = list(KINDS)
    settings.EXPORT_OUTPUT = str(tmp_path / "exports")
    asks = person("administrator")
    approves = person("administrator")
    yield World(*tenants, asks, approves, tmp_path)
    OperationRequest.objects.filter(tenant_id__in=[one.pk for one in tenants]).delete()
    User.objects.filter(pk__in=[asks.pk, approves.pk]).delete()


# -- an approval that does not count, used by the service and by a command -------------------------------------------


def _changed_row(world: World, **values: Any) -> UUID:
    approval = world.approved()
    Approval.objects.filter(pk=approval.pk).update(**values)
    return approval.pk


def _expired(world: World) -> UUID:
    return _changed_row(world, expires_at=now() - timedelta(seconds=1))


def _rejected(world: World) -> UUID:
    approval = world.ask()
    with acting_as(f"staff:{world.approves.username}"):
        approval_reject(approval_id=approval.pk, user=world.approves, digest=approval.digest)
    return approval.pk


def _withdrawn(world: World) -> UUID:
    approval = world.approved()
    with acting_as(f"staff:{world.asks.username}"):
        approval_withdraw(approval_id=approval.pk, user=world.asks)
    return approval.pk


def _replayed(world: World) -> UUID:
    approval = world.approved()
    world.use(approval.pk)
    return approval.pk


def _of_other_tenant(world: World) -> UUID:
    return world.approve(world.ask(tenant_id=world.other.id)).pk


def _of_other_kind(world: World) -> UUID:
    return world.approve(world.ask(EXPORT, {"output": "/x.tar", "recipient": ""})).pk


def _of_other_arguments(world: World) -> UUID:
    return world.approve(world.ask(arguments={**PLAIN, "accept_audit_loss": True})).pk


def _arguments_changed(world: World) -> UUID:
    """Return the id of an approval whose arguments were changed in the table after it was given."""
    approval = world.approve(world.ask(arguments={**PLAIN, "accept_audit_loss": True}))
    Approval.objects.filter(pk=approval.pk).update(arguments=PLAIN)
    return approval.pk


def _after(world: World, change: Callable[[], object]) -> UUID:
    approval = world.approved()
    change()
    return approval.pk


def _close(user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_active=False)


BAD: dict[str, Callable[[World], UUID | None]] = {
    "none": lambda world: None,
    "unknown": lambda world: uuid4(),
    "not decided": lambda world: world.ask().pk,
    "rejected": _rejected,
    "withdrawn": _withdrawn,
    "expired": _expired,
    "replayed": _replayed,
    "another tenant": _of_other_tenant,
    "another kind": _of_other_kind,
    "other arguments": _of_other_arguments,
    "changed after the approval": _arguments_changed,
    "approver lost the permission": lambda world: _after(world, lambda: lose_roles(world.approves)),
    "approver closed": lambda world: _after(
        world, lambda: User.objects.filter(pk=world.approves.pk).update(is_active=False)
    ),
    "approver no longer staff": lambda world: _after(
        world, lambda: User.objects.filter(pk=world.approves.pk).update(is_staff=False)
    ),
    "approver removed": lambda world: _after(world, lambda: User.objects.filter(pk=world.approves.pk).delete()),
    "requester closed": lambda world: _after(world, lambda: _close(world.asks)),
    "requester lost the permission": lambda world: _after(world, lambda: lose_roles(world.asks)),
    "approved by the requester": lambda world: _changed_row(world, decider_id=world.asks.pk),
    "approved by no one": lambda world: _changed_row(world, decider_id=None),
}


def untouched(world: World) -> bool:
    world.tenant.refresh_from_db()
    return world.tenant.status == "active" and not list(world.folder.rglob("*.tar*"))


@pytest.mark.parametrize("name", sorted(BAD))
def test_an_approval_that_does_not_count_is_refused_everywhere(world: World, name: str) -> None:
    """The service, called as the requester, refuses it, and so does the command."""
    approval_id = BAD[name](world)
    with (
        acting_as(f"staff:{world.asks.username}", uuid4().hex),
        approval_given(approval_id),
        pytest.raises(SeoGenError) as refusal,
    ):
        tenant_delete(tenant_id=world.tenant.id)
    assert refusal.value.code.startswith("approval_") and untouched(world)
    approval_id = BAD[name](world) if name not in ("requester closed", "requester lost the permission") else approval_id
    given = ["--approval", str(approval_id)] if approval_id else []
    with pytest.raises(CommandError) as refused:
        call_command("tenant_delete", "--tenant-id", world.tenant.id, "--confirm", *given, stdout=StringIO())
    assert str(getattr(refused.value, "code", "")).startswith("approval_") and untouched(world)


# -- other ways around -----------------------------------------------------------------------------------------------


def test_no_one_approves_what_they_asked_for(world: World) -> None:
    """They can use neither the same account nor another one with the same e-mail address or name."""
    world.asks.email = "ann@example.com"
    world.asks.save()
    approval = world.ask()
    page = f"/admin/tenants/approval/{approval.pk}/"
    browser = world.browser(world.asks)
    assert "/approve/" not in browser.get(f"{page}change/").content.decode()
    browser.post(f"{page}approve/", {"digest": approval.digest})
    second = person("administrator")
    User.objects.filter(pk=second.pk).update(email="Ann@Example.com")
    world.browser(second).post(f"{page}approve/", {"digest": approval.digest})
    User.objects.filter(pk=second.pk).update(email="", username=world.asks.username.upper())
    world.browser(second).post(f"{page}approve/", {"digest": approval.digest})
    approval.refresh_from_db()
    assert approval.status == ApprovalStatus.REQUESTED
    second.delete()


def test_an_account_that_the_requester_made_or_changed_is_no_second_person(world: World) -> None:
    """Otherwise, an administrator could create a second account, or set a colleague's password, and be two people."""
    approval = world.ask()
    page = f"/admin/tenants/approval/{approval.pk}/"
    with acting_as(f"staff:{world.asks.username}"), transaction.atomic(using="default"):
        record(using="default", action="user.roles", resource_type="user", resource_id=str(world.approves.pk))
    answer = world.browser(world.approves).post(f"{page}approve/", {"digest": approval.digest}, follow=True)
    assert "created or changed the account" in answer.content.decode()
    approval.refresh_from_db()
    assert approval.status == ApprovalStatus.REQUESTED
    # They may reject it, and others approve it.
    third = person("administrator")
    world.browser(third).post(f"{page}approve/", {"digest": approval.digest})
    approval.refresh_from_db()
    assert approval.status == ApprovalStatus.APPROVED
    third.delete()


def test_what_concerns_all_tenants_needs_a_role_for_all_of_them(world: World) -> None:
    """An administrator of one tenant cannot approve it, even as a viewer of all; an editor of one cannot ask for it."""
    one = make_user(is_superuser=False)
    give_role(one, "administrator", tenant=world.tenant)
    give_role(one, "viewer")
    approval = Approval(kind=ApprovalKind.PRICE, tenant_id="", requested_by="staff:ann")
    assert not may_approve(one, approval) and may_approve(world.approves, approval)
    editor = make_user(is_superuser=False)
    give_role(editor, "editor", tenant=world.tenant)
    for kind in (ApprovalKind.PRICE, ApprovalKind.COPY_ALL):
        approval = Approval(kind=kind, tenant_id="", requested_by="staff:ann")
        assert not may_ask(editor, approval) and may_ask(world.asks, approval)
    one.delete()
    editor.delete()


def test_the_deletion_of_a_lost_database_is_still_approved(world: World) -> None:
    lost = world.tenant.database_url.rsplit("/", 1)[0] + "/no_such_database"
    Tenant.objects.filter(pk=world.tenant.pk).update(database_url=lost)
    connections.close_all()
    try:
        approval = world.approve(world.ask(arguments={**PLAIN, "accept_audit_loss": True}))
        with pytest.raises(TenantUnreachable):
            world.ask(EXPORT, {"output": "/x.tar", "recipient": ""})
    finally:
        Tenant.objects.filter(pk=world.tenant.pk).update(database_url=world.tenant.database_url)
        connections.close_all()
    entries = ControlAuditLog.objects.filter(details__approval=str(approval.pk))
    assert set(entries.values_list("action", "details__tenant_log")) == {
        ("approval.request", "unreachable"),
        ("approval.approve", "unreachable"),
    }
    with tenant_context(world.tenant):
        assert not AuditLog.objects.filter(resource_id=str(approval.pk)).exists()


def test_an_operator_approves_nothing_of_theirs_in_the_admin(world: World) -> None:
    with pytest.raises(CommandError) as requested:
        call_command(
            "tenant_delete", "--tenant-id", world.tenant.id, "--request-approval", "why", "--confirm", stdout=StringIO()
        )
    assert getattr(requested.value, "code", "") == "approval_requested" and untouched(world)
    approval = Approval.objects.get(requested_by=f"operator:{operator_name()}", status=ApprovalStatus.REQUESTED)
    User.objects.filter(pk=world.approves.pk).update(username=operator_name())
    world.approves.refresh_from_db()
    world.browser(world.approves).post(f"/admin/tenants/approval/{approval.pk}/approve/", {"digest": approval.digest})
    approval.refresh_from_db()
    assert approval.status == ApprovalStatus.REQUESTED
    approval.delete()


def test_an_approver_approves_what_they_saw_and_only_what_they_may(world: World) -> None:
    approval = world.ask()
    page = f"/admin/tenants/approval/{approval.pk}/"
    browser = world.browser(world.approves)
    browser.post(
        f"{page}approve/", {"digest": digest_of(DELETE, world.tenant.id, {**PLAIN, "accept_audit_loss": True})}
    )
    browser.post(f"{page}approve/", {})
    assert browser.get(f"{page}approve/").status_code == 403
    without = person("operator")
    world.browser(without).post(f"{page}approve/", {"digest": approval.digest})
    assert Client().post(f"{page}approve/", {"digest": approval.digest}).status_code == 302  # to the login
    approval.refresh_from_db()
    assert approval.status == ApprovalStatus.REQUESTED
    Approval.objects.filter(pk=approval.pk).update(expires_at=now())
    browser.post(f"{page}approve/", {"digest": approval.digest})
    approval.refresh_from_db()
    assert approval.status == ApprovalStatus.REQUESTED
    without.delete()


def test_an_approval_is_started_once_by_the_person_who_asked(world: World) -> None:
    """Nothing is started before the approval, by another person or by a GET, and nothing again from a second tab."""
    browser = world.browser(world.asks)
    form = {"typed_id": world.tenant.id, "reason": "the contract has ended"}
    response = browser.post(f"/admin/tenants/tenant/{world.tenant.id}/erase/", form)
    approval = Approval.objects.get(pk=response["Location"].split("/")[-3])
    assert not OperationRequest.objects.filter(tenant_id=world.tenant.id).exists()
    start = f"/admin/tenants/approval/{approval.pk}/start/"
    browser.post(start)
    assert not OperationRequest.objects.filter(tenant_id=world.tenant.id).exists()
    shown = world.browser(world.approves).get(f"/admin/tenants/approval/{approval.pk}/change/").content.decode()
    assert "will be erased permanently" in shown and "the contract has ended" in shown
    world.approve(approval)
    world.browser(world.approves).post(start)
    other = person("administrator")
    world.browser(other).post(start)
    assert browser.get(start).status_code == 403
    assert not OperationRequest.objects.filter(tenant_id=world.tenant.id).exists()
    assert "/admin/tenants/operationrequest/" in browser.post(start)["Location"]
    OperationRequest.objects.filter(tenant_id=world.tenant.id).update(status=RequestStatus.REFUSED)
    browser.post(start)  # from another tab
    assert OperationRequest.objects.filter(tenant_id=world.tenant.id).count() == 1
    other.delete()


def test_two_at_the_same_time_use_it_once(world: World) -> None:
    approval, passed = world.approved(), []
    ready = threading.Barrier(4)

    def use() -> None:
        ready.wait()
        try:
            world.use(approval.pk)
            passed.append(1)
        except SeoGenError:
            pass
        finally:
            connections["default"].close()

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passed) == 1


def test_an_export_by_any_output_needs_one(world: World) -> None:
    for output in (str(world.folder / "bundle.tar"), "-"):
        with pytest.raises(CommandError) as refused:
            call_command("tenant_export", "--tenant-id", world.tenant.id, "--output", output, stdout=StringIO())
        assert getattr(refused.value, "code", "") == "approval_required"
    approval = world.approve(world.ask(EXPORT, {"output": str(world.folder / "bundle.tar"), "recipient": ""}))
    for output in (str(world.folder / "elsewhere.tar"), "-"):
        with pytest.raises(CommandError) as refused:
            call_command(
                *("tenant_export", "--tenant-id", world.tenant.id, "--output", output, "--approval", str(approval.pk)),
                stdout=StringIO(),
            )
        assert getattr(refused.value, "code", "") == "approval_changed"
    assert untouched(world)


def test_prompts_to_all_tenants_need_one_however_they_are_named(world: World) -> None:
    everyone = [
        pk for pk in Tenant.objects.exclude(status="deleted").values_list("pk", flat=True) if pk != world.tenant.id
    ]
    for tenant_ids in (None, everyone):
        with pytest.raises(SeoGenError) as refusal:
            prompt_copy(from_tenant_id=world.tenant.id, tenant_ids=tenant_ids)
        assert refusal.value.code == "approval_required"
    # One that no copy can change does not turn the others into a part of them.
    leaving = Tenant.objects.create(id=new_id(), name="leaving", status=TenantStatus.DELETING, database_url="-")
    try:
        with pytest.raises(SeoGenError) as refusal:
            prompt_copy(from_tenant_id=world.tenant.id, tenant_ids=everyone)
        assert refusal.value.code == "approval_required"
    finally:
        leaving.delete()
    with pytest.raises(CommandError, match="Pass --all instead of --to"):
        call_command("prompt_copy", "--from", world.tenant.id, "--to", *everyone, "--request-approval", "why")


def test_prices_by_hand_need_one_on_every_page(world: World) -> None:
    model = LLMModel.objects.create(provider_id="openai", model_name=f"m-{uuid4().hex[:8]}", model_class="pro")
    browser = world.browser(world.asks)
    base = f"/admin/llm/llmmodel/{model.pk}/"
    with pytest.raises(SeoGenError):
        prices_set(model=model, prices=ModelPrices({"input": Decimal("0.5")}))
    form = {"provider": "openai", "model_name": model.model_name, "model_class": "pro"}
    browser.post(f"{base}change/", {**form, "cost_per_1k_input_tokens": "0.5"})
    listed = {"form-TOTAL_FORMS": "1", "form-INITIAL_FORMS": "1", "form-0-id": str(model.pk), "_save": "Save"}
    listed |= {"form-0-model_class": "pro", "form-0-cost_per_1k_input_tokens": "0.5"}
    refused = browser.post(f"/admin/llm/llmmodel/?q={model.model_name}", listed, follow=True)
    assert refused.redirect_chain and "second person" in refused.content.decode()
    response = browser.post(f"{base}set_prices/", {"valid_from": "2100-01-01", "input": "0.5", "note": "a contract"})
    assert not model.prices.exists()
    approval = Approval.objects.get(pk=response["Location"].split("/")[-3])
    start = f"/admin/tenants/approval/{approval.pk}/start/"
    browser.post(start)
    assert not model.prices.exists()
    world.approve(approval)
    browser.post(start)
    [price] = model.prices.all()
    assert price.prices == {"input": "0.5"}
    model.delete()


def test_a_request_made_before_the_setting_is_refused_by_the_worker(world: World, settings: Settings) -> None:
    settings.TWO_PERSON_OPERATIONS = []
    form = {"typed_id": world.tenant.id, "reason": "a test"}
    world.browser(world.asks).post(f"/admin/tenants/tenant/{world.tenant.id}/erase/", form)
    settings.TWO_PERSON_OPERATIONS = list(KINDS)
    request = OperationRequest.objects.get(tenant_id=world.tenant.id, kind="delete", status=RequestStatus.REQUESTED)
    assert operations_work("worker@test/1", request.pk) == 1
    request.refresh_from_db()
    assert (request.status, request.error_code) == (RequestStatus.REFUSED, "approval_required") and untouched(world)


# -- what passes -----------------------------------------------------------------------------------------------------


def test_an_approved_export_passes_once_and_is_bound_into_both_logs(world: World) -> None:
    browser = world.browser(world.asks)
    response = browser.post(f"/admin/tenants/tenant/{world.tenant.id}/export/", {"reason": "moves to its own server"})
    approval = Approval.objects.get(pk=response["Location"].split("/")[-3])
    world.browser(world.approves).post(
        f"/admin/tenants/approval/{approval.pk}/approve/", {"digest": approval.digest, "note": "fine"}
    )
    browser.post(f"/admin/tenants/approval/{approval.pk}/start/")
    request = OperationRequest.objects.get(approval_id=approval.pk)
    # Its worker is lost before it begins: the approval counts for the next one too.
    OperationRequest.objects.filter(pk=request.pk).update(
        status=RequestStatus.RUNNING, fence=1, lease_until=now() - timedelta(seconds=1), started_at=now()
    )
    assert operations_work("worker@test/1", request.pk) == 1
    request.refresh_from_db()
    assert request.status == RequestStatus.DONE, request.error
    approval.refresh_from_db()
    assert (approval.status, approval.used_for) == (ApprovalStatus.USED, str(request.pk))
    names = ["approval.request", "approval.approve"]
    control = ControlAuditLog.objects.filter(details__approval=str(approval.pk)).order_by("sequence")
    assert list(control.values_list("action", flat=True)) == [*names, "approval.use"]
    with tenant_context(world.tenant):
        own = AuditLog.objects.filter(resource_id=str(approval.pk)).order_by("sequence")
        assert list(own.values_list("action", "user_id")) == [
            (names[0], f"staff:{world.asks.username}"),
            (names[1], f"staff:{world.approves.username}"),
        ]
    for path in world.folder.rglob("*.tar"):
        path.unlink()


@pytest.mark.parametrize(
    "options",
    [
        ("prompt_copy", "--from", "a", "--to", "b", "--request-approval", "why"),
        ("prompt_copy", "--from", "a", "--all", "--dry-run", "--request-approval", "why"),
        ("prompt_copy", "--undo", str(uuid4()), "--request-approval", "why"),
        (
            "tenant_export",
            "--tenant-id",
            "a",
            "--output",
            "b",
            "--request-approval",
            "why",
            "--approval",
            str(UUID(int=1)),
        ),
    ],
)
def test_an_approval_is_requested_only_for_what_may_need_one(options: tuple[str, ...]) -> None:
    with pytest.raises(CommandError) as refused:
        call_command(*options, stdout=StringIO())
    assert getattr(refused.value, "code", "") == "options_conflict"
    assert not Approval.objects.filter(reason="why").exists()


def test_an_operators_approved_command_passes_once(world: World) -> None:
    output = str(world.folder / "bundle.tar")
    command = ("tenant_export", "--tenant-id", world.other.id, "--output", output)
    with pytest.raises(CommandError):
        call_command(*command, "--request-approval", "moves", stdout=StringIO())
    approval = Approval.objects.get(tenant_id=world.other.id, status=ApprovalStatus.REQUESTED, kind=EXPORT)
    world.approve(approval)
    call_command(*command, "--approval", str(approval.pk), stdout=StringIO())
    Path(output).unlink()
    with pytest.raises(CommandError) as refused:
        call_command(*command, "--approval", str(approval.pk), stdout=StringIO())
    assert getattr(refused.value, "code", "") == "approval_used"
