"""`kill -9` a real worker in the middle of a backup and of a deletion that staff requested: another finishes both."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from django.contrib.auth.models import User
from django.test import Client

from audit.control.models import ControlAuditLog
from config.celery import app
from tenants.models import Backup, BackupStatus, Erasure, OperationRequest, OperationStatus, RequestStatus, Tenant
from tenants.models import TenantOperation as Operation
from tenants.requests.wake import operations_sweep
from tests.runs.conftest import broker_queue
from tests.runs.worker import kill, wait_for, worker
from tests.support.tenant_fixtures import MakeTenant
from tests.tenants.support.erased import forget_erasure
from tests.tenants.support.killed import files_in

__all__ = ["broker_queue"]
LEASE_S = 2.0

pytestmark = [pytest.mark.chaos, pytest.mark.usefixtures("broker_queue", "no_other_requests")]


def test_another_worker_ends_what_a_killed_one_began(
    browser: Client, superuser: User, make_tenant: MakeTenant, tmp_path: Path
) -> None:
    app.set_current()  # the helpers of the worker ask the current application
    kept, leaving = make_tenant(), make_tenant()
    environment = {"BACKUP_OUTPUT": str(tmp_path), "OPERATION_LEASE_S": str(LEASE_S)}
    # The dump waits for the table, and closing the tenant for its transactions.
    with psycopg.connect(kept.database_url) as blocks_dump, psycopg.connect(leaving.database_url) as stays_open:
        blocks_dump.execute("LOCK TABLE runs IN ACCESS EXCLUSIVE MODE")
        stays_open.execute("SELECT 1")
        with worker(**environment) as first:
            backup = ask(browser, kept, "back-up")
            deletion = ask(browser, leaving, "erase", typed_id=leaving.id)
            wait_for(lambda: Backup.objects.filter(tenant_id=kept.id, status=BackupStatus.RUNNING).exists())
            begun = Operation.objects.filter(tenant_id=leaving.id, kind="delete", status=OperationStatus.RUNNING)
            wait_for(begun.exists)
            kill(first)
    with worker(**environment):

        def both_over() -> bool:
            operations_sweep()  # as beat does
            over = OperationRequest.objects.filter(pk__in=[backup.pk, deletion.pk], status=RequestStatus.DONE)
            return over.count() == 2

        wait_for(both_over)
    made = Backup.objects.filter(tenant_id=kept.id)
    assert sorted(made.values_list("status", flat=True)) == ["completed", "failed"]
    completed = made.get(status=BackupStatus.COMPLETED)
    assert files_in(tmp_path) == sorted([completed.name, f"{completed.name}.json"])
    entries = ControlAuditLog.objects.filter(resource_id=leaving.id, operation_id=str(deletion.pk))
    assert entries.filter(action="tenant.delete").count() == 1
    assert entries.filter(action="tenant.delete.complete").count() == 1
    assert set(entries.values_list("user_id", flat=True)) == {f"staff:{superuser.username}"}
    backup.refresh_from_db()
    assert (backup.lost_workers, backup.result) == (1, {"backup": str(completed.pk)})
    forget_erasure(Erasure.objects.get(tenant_id=leaving.id))


def ask(browser: Client, tenant: Tenant, page: str, **form: str) -> OperationRequest:
    response = browser.post(f"/admin/tenants/tenant/{tenant.id}/{page}/", {"reason": "a test", **form})
    assert response.status_code == 302, response.content.decode()
    return OperationRequest.objects.get(pk=response["Location"].split("/")[-3])
