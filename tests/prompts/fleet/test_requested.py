"""A worker is killed during a requested copy of prompts, preview or undo: another ends it, and does nothing twice."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models.functions import Now

from audit.log.actor import acting_as
from audit.models import AuditLog
from config.celery import app
from prompts.models import Prompt
from tenants.models import BatchStatus, MigrationBatch, OperationRequest, RequestKind, RequestStatus, Tenant
from tenants.requests.prompt_copies import copy_arguments, preview_arguments, undo_arguments
from tenants.requests.request import operation_request
from tenants.requests.wake import operations_sweep
from tenants.requests.work import operations_work
from tenants.routing.context import tenant_context
from tests.prompts.fleet.copies import TEXT, active_text, make_source
from tests.runs.conftest import broker_queue
from tests.runs.worker import kill, wait_for, worker
from tests.support.forked import forked
from tests.support.tenant_fixtures import MakeTenant
from tests.tenants.conftest import no_other_requests
from tests.tenants.support.fleets import as_owner, leftovers

__all__ = ["broker_queue", "no_other_requests"]

pytestmark = [pytest.mark.chaos, pytest.mark.usefixtures("no_other_requests")]
LEASE_S = 2.0
LAPSED = timedelta(seconds=1)


@pytest.fixture
def trio(make_tenant: MakeTenant) -> Iterator[list[Tenant]]:
    tenants = [make_tenant() for _ in range(3)]
    make_source(tenants[0])
    yield tenants
    MigrationBatch.objects.filter(tenants__tenant_id__in=[one.pk for one in tenants]).delete()
    OperationRequest.objects.filter(tenant_id=tenants[0].pk).delete()


def ask(user: User, source: Tenant, kind: RequestKind, arguments: dict[str, object]) -> OperationRequest:
    with acting_as(f"staff:{user.username}"):
        return operation_request(user=user, kind=kind, tenant_id=source.pk, arguments=arguments, reason="a test")


def previewed(user: User, source: Tenant, others: list[Tenant]) -> OperationRequest:
    chosen = preview_arguments(steps=[], version=None, tenants=[one.pk for one in others], text="")
    request = ask(user, source, RequestKind.PROMPT_COPY, chosen)
    operations_work("test", request.pk)
    request.refresh_from_db()
    assert request.status == RequestStatus.DONE, request.error
    return request


def versions(tenant: Tenant) -> tuple[list[int], int]:
    """Return the versions of the prompt "draft", and how many copies and undos are in the tenant's audit log."""
    with tenant_context(tenant) as alias:
        found = Prompt.objects.using(alias).filter(step="draft").order_by("version")
        copies = AuditLog.objects.using(alias).filter(action="prompt.copy")
        return list(found.values_list("version", flat=True)), copies.count()


@pytest.mark.usefixtures("broker_queue")
def test_another_worker_ends_the_copy_of_a_killed_one(superuser: User, trio: list[Tenant]) -> None:
    app.set_current()  # the helpers of the worker ask the current application
    source, *others = trio
    preview = previewed(superuser, source, others)
    preparing = MigrationBatch.objects.filter(status=BatchStatus.PREPARING, pending_count=2)
    environment = {"OPERATION_LEASE_S": str(LEASE_S)}
    with as_owner(others[1]) as holder:
        # The change of this tenant waits for the table, so the batch has not been decided.
        holder.execute("LOCK TABLE prompts IN ROW EXCLUSIVE MODE")
        with worker(**environment) as first:
            copy = ask(superuser, source, RequestKind.PROMPT_COPY, copy_arguments(preview))
            wait_for(preparing.exists)
            kill(first)
    with worker(**environment):

        def over() -> bool:
            operations_sweep()  # as beat does
            return OperationRequest.objects.filter(pk=copy.pk, status=RequestStatus.DONE).exists()

        wait_for(over)
    copy.refresh_from_db()
    assert copy.lost_workers == 1 and copy.result is not None and copy.result["changed"] == 2
    assert [versions(one) for one in others] == [([1, 2], 1), ([1, 2], 1)]
    assert [active_text(one) for one in others] == [TEXT, TEXT]
    assert MigrationBatch.objects.get(pk=copy.result["batch"]).user_id == f"staff:{superuser.username}"
    assert leftovers() == []


@pytest.mark.parametrize(("step", "done", "batches"), [("prepare", 1, 2), ("commit", 1, 1)])
def test_a_copy_begins_anew_unless_it_was_decided(
    superuser: User, trio: list[Tenant], step: str, done: int, batches: int
) -> None:
    source, *others = trio
    copy = ask(superuser, source, RequestKind.PROMPT_COPY, copy_arguments(previewed(superuser, source, others)))
    work_and_die(copy, step, done)
    again(copy)
    assert [versions(one) for one in others] == [([1, 2], 1), ([1, 2], 1)]
    made = MigrationBatch.objects.filter(tenants__tenant_id=others[0].pk, dry_run=False).distinct()
    assert made.count() == batches and leftovers() == []


@pytest.mark.parametrize(("step", "done"), [("prepare", 1), ("commit", 1)])
def test_an_undo_begins_anew_unless_it_was_decided(superuser: User, trio: list[Tenant], step: str, done: int) -> None:
    source, *others = trio
    copy = ask(superuser, source, RequestKind.PROMPT_COPY, copy_arguments(previewed(superuser, source, others)))
    operations_work("test", copy.pk)
    copy.refresh_from_db()
    undo = ask(superuser, source, RequestKind.PROMPT_UNDO, undo_arguments(copy))
    work_and_die(undo, step, done)
    again(undo)
    assert [versions(one) for one in others] == [([1, 2], 2), ([1, 2], 2)]
    assert TEXT not in [active_text(one) for one in others] and leftovers() == []


def test_a_preview_begins_anew(superuser: User, trio: list[Tenant]) -> None:
    source, *others = trio
    chosen = preview_arguments(steps=[], version=None, tenants=[one.pk for one in others], text="")
    preview = ask(superuser, source, RequestKind.PROMPT_COPY, chosen)
    work_and_die(preview, "compare versions", 1)
    again(preview)
    assert MigrationBatch.objects.filter(tenants__tenant_id=others[0].pk).distinct().count() == 1


def again(request: OperationRequest) -> None:
    """Let another worker finish the request, as if the lease of the dead one had lapsed; check that it is done."""
    OperationRequest.objects.filter(pk=request.pk).update(lease_until=Now() - LAPSED)
    assert operations_work("another", request.pk) == 1
    request.refresh_from_db()
    assert (request.status, request.lost_workers) == (RequestStatus.DONE, 1), request.error


def work_and_die(request: OperationRequest, step: str, done: int) -> None:
    """Carry out the request in a separate process; `kill -9` it when `done` items of a step are done."""
    with forked(_work_and_die, request.pk, step, done) as (process, _heard):
        process.join()
        assert process.exitcode == -signal.SIGKILL


def _work_and_die(_said: Connection, request_id: Any, step: str, done: int) -> None:
    from tenants.requests import claim, work

    def on_step(_self: object, *reached: object) -> None:
        if reached[:2] == (step, done):
            os.kill(os.getpid(), signal.SIGKILL)

    claim.Progress.on_step = on_step  # type: ignore[assignment]
    work.operations_work("doomed", request_id)
