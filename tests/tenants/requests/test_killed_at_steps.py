"""`kill -9` a process at a step of what staff requested: the next worker finishes or undoes it.

Nothing is left to recover then.

`make chaos` kills at every step.
"""

from __future__ import annotations

import os
import signal
from contextlib import nullcontext
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from unittest.mock import patch
from uuid import UUID

import pytest
from django.db.models.functions import Now
from django.test import Client
from pytest_django import Settings

from audit.control.models import ControlAuditLog
from runs.models import Run
from tenants.app_hooks import OnStep
from tenants.models import Backup, BackupStatus, MigrationBatch, OperationRequest, RequestStatus, Tenant, TenantStatus
from tenants.requests import work
from tenants.requests.kinds import Result, carry_out
from tenants.routing.context import tenant_context
from tenants.unfinished import tenant_recover
from tests.runs.worker import wait_for
from tests.support.forked import forked
from tests.support.releases import NextRelease
from tests.support.tenant_fixtures import MakeTenant, remove
from tests.tenants.requests.test_requests import ask
from tests.tenants.support.created import new_id
from tests.tenants.support.filled import add_run
from tests.tenants.support.fleets import history_of, leftovers
from tests.tenants.support.killed import files_in

pytestmark = [pytest.mark.chaos, pytest.mark.usefixtures("no_other_requests")]
EVERY_STEP = "CHAOS_ROUNDS" in os.environ
RESTORING = ("load", "verify", "migrate", "settle", "close", "swap", "open", "reconcile", "done")
UNDOING = ("close", "swap", "open", "reconcile", "done")
COPYING = ("load", "verify", "migrate", "identity", "files", "access", "open", "done")
EXPORTING = ("snapshot", "dump", "account", "storage", "bundle", "done")
DRILLING = ("load", "verify", "migrate", "done")
MIGRATING = ("check", "rehearse", "prepare", "decide", "commit")


def chosen(steps: tuple[str, ...], *some: str) -> tuple[str, ...]:
    return steps if EVERY_STEP else some


@pytest.fixture
def backup(browser: Client, tenant: Tenant, settings: Settings, tmp_path: Path) -> Backup:
    """Return a backup of the tenant with one run; the tenant has two by now."""
    settings.BACKUP_OUTPUT, settings.EXPORT_OUTPUT = str(tmp_path / "backups"), str(tmp_path / "exports")
    add_run(tenant)
    made = ask(browser, tenant, "back-up")
    assert work.operations_work("worker@test/1", made.pk) == 1
    add_run(tenant)
    return Backup.objects.get(tenant_id=tenant.id)


@pytest.mark.parametrize("step", chosen(RESTORING, "load", "swap", "reconcile"))
def test_a_restore(browser: Client, tenant: Tenant, backup: Backup, step: str) -> None:
    ended = killed_at(step, ask(browser, tenant, "restore", backup=str(backup.pk), typed_id=tenant.id))
    tenant.refresh_from_db()
    assert tenant.status == TenantStatus.ACTIVE
    is_done = ended.status == RequestStatus.DONE
    assert run_count(tenant) == (1 if is_done else 2), ended.error
    assert completions(ended, "tenant.restore.complete") == is_done
    # What was replaced is kept for an undo; nothing else is left.
    undone = killed_at(step, ask(browser, tenant, "undo", typed_id=tenant.id)) if is_done and step in UNDOING else None
    if undone is not None:
        assert run_count(tenant) == (2 if undone.status == RequestStatus.DONE else 1), undone.error


@pytest.mark.parametrize("step", chosen(COPYING, "load", "files", "open"))
def test_a_copy(browser: Client, tenant: Tenant, backup: Backup, step: str) -> None:
    copy_id = new_id()
    ended = killed_at(step, ask(browser, tenant, "copy", backup=str(backup.pk), new_id=copy_id))
    if ended.status != RequestStatus.DONE:
        # It was undone, so the id is free.
        assert not Tenant.objects.filter(pk=copy_id, status=TenantStatus.ACTIVE).exists()
        copy_id = new_id()
        again = ask(browser, tenant, "copy", backup=str(backup.pk), new_id=copy_id)
        assert work.operations_work("worker@test/1", again.pk) == 1
    copy = Tenant.objects.get(pk=copy_id)
    assert copy.status == TenantStatus.ACTIVE and (run_count(copy), run_count(tenant)) == (1, 2)
    remove(copy)


@pytest.mark.parametrize("step", chosen(EXPORTING, "dump", "bundle"))
def test_an_export(browser: Client, tenant: Tenant, settings: Settings, tmp_path: Path, step: str) -> None:
    settings.EXPORT_OUTPUT = str(tmp_path)
    ended = killed_at(step, ask(browser, tenant, "export"))
    assert ended.status == RequestStatus.DONE, ended.error
    made = Backup.objects.filter(tenant_id=tenant.id)
    assert files_in(tmp_path) == [made.get(status=BackupStatus.COMPLETED).name]
    assert ended.result == {"backup": str(made.get(status=BackupStatus.COMPLETED).pk)}
    assert not made.filter(status=BackupStatus.RUNNING).exists()


@pytest.mark.parametrize("step", chosen(DRILLING, "verify"))
def test_a_drill(browser: Client, tenant: Tenant, backup: Backup, step: str) -> None:
    ended = killed_at(step, ask(browser, tenant, "drill"))
    assert ended.status == RequestStatus.DONE and run_count(tenant) == 2
    assert leftovers() == []


@pytest.mark.usefixtures("empty_fleet")
@pytest.mark.parametrize("step", chosen(MIGRATING, "prepare", "commit"))
def test_a_migration_of_the_fleet(
    browser: Client, make_tenant: MakeTenant, next_release: NextRelease, step: str
) -> None:
    tenants = [make_tenant() for _ in range(3)]
    next_release.add("0003_plain")
    with next_release.active():
        response = browser.post("/admin/tenants/tenantschema/migrate/", {"reason": "a test"})
        assert response.status_code == 302, response.content.decode()
        request = OperationRequest.objects.get(pk=response["Location"].split("/")[-3])
        ended = killed_at(step, request, next_release)
    on_the_new = {("runs", "0003_plain") in history_of(tenant) for tenant in tenants}
    assert on_the_new == {ended.status == RequestStatus.DONE}, ended.error
    assert leftovers() == []
    assert MigrationBatch.objects.get(pk=batch_of(ended)).finished_at is not None


def killed_at(step: str, request: OperationRequest, release: NextRelease | None = None) -> OperationRequest:
    """Carry out the request in a process that is killed at the step, then finish it in this process; return it."""
    with forked(_work_and_die, request.pk, step, release) as (process, heard):
        process.join()
        is_killed = process.exitcode == -signal.SIGKILL
        problem = heard.recv() if process.exitcode == 1 else ""
    request.refresh_from_db()
    assert is_killed, problem or f"The {request.kind} ended without the step {step}: {request.status} {request.error}"
    waiting = OperationRequest.objects.filter(
        pk=request.pk, status__in=(RequestStatus.RUNNING, RequestStatus.REQUESTED)
    )

    def is_over() -> bool:
        # The killed process's lease would end later, and its locks until PostgreSQL notices its end.
        waiting.update(lease_until=Now() - timedelta(seconds=1), due_at=Now())
        work.operations_work("worker@test/2", request.pk)
        return not waiting.exists()

    wait_for(is_over)
    request.refresh_from_db()
    assert request.lost_workers == 1
    assert request.status in (RequestStatus.DONE, RequestStatus.FAILED), request.error
    assert tenant_recover() == []
    return request


def _work_and_die(said: Connection, request_id: UUID, step: str, release: NextRelease | None) -> None:
    def dying(claimed: OperationRequest, on_step: OnStep) -> Result:
        def die(reached: str, done: int, total: int) -> None:
            if reached == step:
                os.kill(os.getpid(), signal.SIGKILL)
            on_step(reached, done, total)

        return carry_out(claimed, die)

    with patch.object(work, "carry_out", dying), release.active() if release else nullcontext():
        work.operations_work("worker@test/1", request_id)


def completions(request: OperationRequest, action: str) -> int:
    return ControlAuditLog.objects.filter(operation_id=str(request.pk), action=action).count()


def batch_of(request: OperationRequest) -> str:
    entries = ControlAuditLog.objects.filter(operation_id=str(request.pk), resource_type="migration_batch")
    return str(entries.values_list("resource_id", flat=True)[0])


def run_count(tenant: Tenant) -> int:
    with tenant_context(tenant) as alias:
        return Run.objects.using(alias).count()
