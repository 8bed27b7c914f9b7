"""Operations that staff request in the admin, and that a worker executes in their name."""

from __future__ import annotations

import os
import re
import threading
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.html import strip_tags
from pytest_django import Settings

from audit.control.models import ControlAuditLog
from audit.log.actor import acting_as
from audit.log.entries import record
from config.base.databases import CONTROL
from config.base.errors import SeoGenError
from tenants.admin.operations import duration_of
from tenants.lifecycle.suspend import tenant_suspend
from tenants.models import (
    Backup,
    BackupKind,
    BackupStatus,
    BatchStatus,
    Erasure,
    MigrationBatch,
    OperationRequest,
    OperationStatus,
    RequestKind,
    RequestStatus,
    Tenant,
    TenantOperation,
    database_prefix,
)
from tenants.operations import tenant_lock
from tenants.requests.errors import FleetNotMigrated, OperationAlreadyRequested, OperationUndone
from tenants.requests.exports import exports_expire
from tenants.requests.interrupted import _operation, recovered
from tenants.requests.work import operations_work
from tenants.schema.inspection import database_of
from tenants.servers.session import ServerSession
from tests.audit.audited import as_superuser
from tests.support.forked import forked
from tests.support.staff import give_role, make_user
from tests.tenants.support.created import new_id
from tests.tenants.support.erased import forget_erasure

WORKER = "worker@test/1"

pytestmark = pytest.mark.usefixtures("no_other_requests")


@pytest.fixture(autouse=True)
def places(settings: Settings, tmp_path: Path) -> None:
    settings.BACKUP_OUTPUT, settings.EXPORT_OUTPUT = str(tmp_path / "backups"), str(tmp_path / "exports")


def ask(browser: Client, tenant: Tenant, page: str, **form: Any) -> OperationRequest:
    """Send the form of one of the tenant's pages; return the request that this creates."""
    response = browser.post(f"/admin/tenants/tenant/{tenant.id}/{page}/", {"reason": "a test", **form})
    assert response.status_code == 302, response.content.decode()
    return OperationRequest.objects.get(pk=response["Location"].split("/")[-3])


def work(request: OperationRequest) -> OperationRequest:
    assert operations_work(WORKER, request.pk) == 1
    request.refresh_from_db()
    return request


def actions(request: OperationRequest) -> list[tuple[str, str]]:
    entries = ControlAuditLog.objects.filter(operation_id=str(request.pk)).order_by("sequence")
    return list(entries.values_list("action", "user_id"))


def test_a_backup_is_requested_watched_and_made(browser: Client, superuser: User, tenant: Tenant) -> None:
    page = browser.get(f"/admin/tenants/tenant/{tenant.id}/back-up/").content.decode()
    assert tenant.name in page
    request = ask(browser, tenant, "back-up", with_storage="on")
    assert (request.status, request.requested_by) == (RequestStatus.REQUESTED, f"staff:{superuser.username}")
    url = f"/admin/tenants/operationrequest/{request.pk}/"
    waiting = browser.get(f"{url}change/").content.decode()
    assert f'hx-get="{url}progress/"' in waiting
    assert Backup.objects.filter(tenant_id=tenant.id).count() == 0  # nothing is done by the web server

    work(request)
    backup = Backup.objects.get(tenant_id=tenant.id)
    assert (request.status, request.result) == (RequestStatus.DONE, {"backup": str(backup.pk)})
    assert (backup.status, backup.user_id) == (BackupStatus.COMPLETED, request.requested_by)
    who = request.requested_by
    assert actions(request) == [
        *((name, who) for name in ("operation.start", "tenant.backup", "tenant.backup.complete", "operation.end")),
    ]
    asked = ControlAuditLog.objects.get(action="operation.request", details__operation=str(request.pk))
    assert (asked.user_id, asked.resource_id) == (who, tenant.id)
    for language in ("en", "ja"):
        over = browser.get(f"{url}progress/", headers={"accept-language": language}).content.decode()
        assert "hx-get" not in over and str(backup.pk) in over
    assert operations_work(WORKER, request.pk) == 0  # a repeated wake-up does nothing


def test_restore_undo_copy_drill_and_export(browser: Client, tenant: Tenant, settings: Settings) -> None:
    made = work(ask(browser, tenant, "back-up"))
    assert made.result is not None
    backup = made.result["backup"]
    page = browser.get(f"/admin/tenants/tenant/{tenant.id}/restore/").content.decode()
    assert f'value="{backup}"' in page

    refused = browser.post(f"/admin/tenants/tenant/{tenant.id}/restore/", {"backup": backup, "reason": "x"})
    assert refused.status_code == 200 and not OperationRequest.objects.filter(kind="restore").exists()  # no typed id
    typed = {"backup": backup, "typed_id": tenant.id}
    restored = work(ask(browser, tenant, "restore", **typed))
    assert restored.status == RequestStatus.DONE and restored.result is not None
    assert "tenant.restore.complete" in {name for name, _who in actions(restored)}

    undone = work(ask(browser, tenant, "undo", typed_id=tenant.id))
    assert undone.status == RequestStatus.DONE
    # Stored in the worker's language, shown in the reader's.
    restores = browser.get("/admin/tenants/restore/", headers={"accept-language": "ja"}).content.decode()
    assert "オペレーション" in restores and "restore undo" not in strip_tags(restores)
    [undos] = set(re.findall(r'href="([^"]*operation__kind=[^"]*undo[^"]*)"', restores))
    listed = browser.get(f"/admin/tenants/restore/{unescape(undos)}").context["cl"].result_list
    assert {row.operation.kind for row in listed} == {"restore undo"}
    assert "the database replaced by the operation of" not in restores and "で置き換えられたデータベース" in restores

    drilled = work(ask(browser, tenant, "drill"))
    assert drilled.status == RequestStatus.DONE and drilled.result is not None and drilled.result["timing_s"]

    copy_id = new_id()
    copied = work(ask(browser, tenant, "copy", backup=backup, new_id=copy_id))
    assert (copied.status, copied.result) == (RequestStatus.DONE, {"tenant": copy_id, "missing_files": 0})
    copy = Tenant.objects.get(pk=copy_id)

    exported = work(ask(browser, copy, "export"))
    bundle = Backup.objects.get(tenant_id=copy_id, kind=BackupKind.EXPORT)
    assert (exported.status, bundle.place) == (RequestStatus.DONE, settings.EXPORT_OUTPUT)
    assert_export_is_downloaded_and_expires(browser, bundle, settings)

    page = browser.get(f"/admin/tenants/tenant/{copy_id}/erase/").content.decode()
    assert copy.name in page and "Its audit log" in page  # exactly what goes
    deleted = work(ask(browser, copy, "erase", typed_id=copy_id))
    assert deleted.status == RequestStatus.DONE and deleted.result is not None
    copy.refresh_from_db()
    assert copy.status == "deleted"
    for request in (restored, undone, drilled, copied, exported, deleted):
        assert browser.get(f"/admin/tenants/operationrequest/{request.pk}/change/").status_code == 200
    forget_erasure(Erasure.objects.get(pk=deleted.result["erasure"]))


def test_a_drill_that_fails_has_not_been_refused(browser: Client, tenant: Tenant, settings: Settings) -> None:
    # Where the byte makes a compressed block end early, pg_restore never returns (its loop waits for inflate to go on).
    settings.RESTORE_STALL_S = 5
    made = work(ask(browser, tenant, "back-up"))
    backup = Backup.objects.get(pk=(made.result or {})["backup"])
    file = Path(backup.place) / backup.name
    with file.open("r+b") as damaged:
        damaged.seek(-200, os.SEEK_END)
        damaged.write(b"x")
    drilled = work(ask(browser, tenant, "drill", backup=str(backup.pk)))
    assert drilled.status == RequestStatus.FAILED, drilled.error
    assert drilled.error_code in ("backup_corrupt", "load_stopped"), drilled.error
    assert duration_of(drilled)


def test_a_lock_is_the_reason_that_staff_read(browser: Client, tenant: Tenant) -> None:
    made = work(ask(browser, tenant, "back-up"))
    asked = ask(browser, tenant, "drill", backup=str((made.result or {})["backup"]))
    with as_superuser() as holder:
        holder.execute("LOCK TABLE files_read")
        with connections[CONTROL].cursor() as cursor:
            cursor.execute("SET lock_timeout = '200ms'")
        drilled = work(asked)
    connections[CONTROL].close()
    assert (drilled.status, drilled.error_code) == (RequestStatus.REFUSED, "database_unusable"), drilled.error
    assert "lock timeout" in drilled.error


def test_a_recovered_migration_that_missed_a_tenant_is_reported(tenant: Tenant) -> None:
    """The request fails, as it would have without the crash."""
    missed = f"Tenant {tenant.id}: Someone else rolled back its prepared transaction."
    request = OperationRequest.objects.create(
        kind=RequestKind.MIGRATE, arguments={"dry_run": False}, requested_by="staff:test", status="running"
    )
    batch = MigrationBatch.objects.create(user_id="test", version="x", status=BatchStatus.COMPLETED, error=missed)
    with acting_as("staff:test", operation_id=str(request.pk)), transaction.atomic(using=CONTROL):
        record(using=CONTROL, action="tenant.migrate", resource_type="migration_batch", resource_id=str(batch.pk))
    with pytest.raises(FleetNotMigrated, match=missed):
        recovered(request, lambda step, done, total: None)
    batch.delete()


def assert_export_is_downloaded_and_expires(browser: Client, bundle: Backup, settings: Settings) -> None:
    page = f"/admin/tenants/backup/{bundle.pk}/"
    assert f'href="{page}download/"' in browser.get(f"{page}change/").content.decode()
    response = browser.get(f"{page}download/")
    file = Path(bundle.place) / bundle.name
    assert b"".join(response.streaming_content) == file.read_bytes()  # type: ignore[attr-defined]
    assert ControlAuditLog.objects.filter(action="backup.download", details__backup=str(bundle.pk)).count() == 1
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"x")
    with pytest.raises(SeoGenError):
        list(browser.get(f"{page}download/").streaming_content)  # type: ignore[attr-defined]
    file.write_bytes(whole)
    stranger = make_user(is_superuser=False)
    give_role(stranger, "viewer")
    other = Client()
    other.force_login(stranger)
    assert other.get(f"{page}download/").status_code == 403
    stranger.delete()
    assert exports_expire() == 0
    settings.EXPORT_RETENTION_DAYS = -1
    assert exports_expire() == 1 and not file.exists()
    settings.EXPORT_RETENTION_DAYS = 7


def test_a_tenants_page_shows_its_state_without_asking_its_database(browser: Client, tenant: Tenant) -> None:
    work(ask(browser, tenant, "back-up"))
    with CaptureQueriesContext(connections["default"]) as queries:
        for language, ended, spent in (
            ("en", "Operation ended", "0.00 USD"),
            ("ja", "オペレーションの終了", "0.00 米ドル"),
        ):
            page = browser.get(
                f"/admin/tenants/tenant/{tenant.id}/change/", headers={"accept-language": language}
            ).content.decode()
            backup = Backup.objects.get(tenant_id=tenant.id)
            assert str(backup.pk) in page and ended in page and spent in page
    assert tenant.alias not in connections.settings
    assert len(queries) < 80
    dialog = browser.get(f"/admin/tenants/tenant/{tenant.id}/suspend/").content.decode()
    assert tenant.name in dialog
    browser.post(f"/admin/tenants/tenant/{tenant.id}/suspend/", {"_form_submitted": "on", "reason": "unpaid"})
    entry = ControlAuditLog.objects.get(action="tenant.suspend", resource_id=tenant.id)
    assert entry.details == {"reason": "unpaid"}


def test_what_cannot_begin_is_refused_with_the_services_sentence(browser: Client, tenant: Tenant) -> None:
    request = ask(browser, tenant, "undo", typed_id=tenant.id)
    work(request)
    assert (request.status, request.error_code) == (RequestStatus.REFUSED, "restore_undo_none")
    assert request.error in browser.get(f"/admin/tenants/operationrequest/{request.pk}/change/").content.decode()


def test_a_worker_writes_in_the_language_of_the_installation(
    browser: Client, tenant: Tenant, settings: Settings
) -> None:
    settings.LANGUAGE_CODE = "ja"
    request = work(ask(browser, tenant, "undo", typed_id=tenant.id))
    assert request.error == (
        f"テナント {tenant.id} を復元できませんでした。復元で置き換えられたデータベースが保持されていません。"
        "データベースは元のままです。"
    )


def test_a_refusal_names_the_form_and_no_option_of_the_command(browser: Client, tenant: Tenant) -> None:
    assert tenant.server is not None
    with ServerSession(tenant.server, database_prefix()) as server_session:
        server_session.drop_database(database_of(tenant))
    request = ask(browser, tenant, "erase", typed_id=tenant.id)
    work(request)
    assert (request.status, request.error_code) == (RequestStatus.REFUSED, "deletion_refused")
    assert "switch on “Continue even if the tenant's audit log is broken or missing”" in request.error
    assert "--accept" not in request.error


def test_an_operation_waits_for_another_process_and_for_its_tenant(browser: Client, tenant: Tenant) -> None:
    request = ask(browser, tenant, "back-up")
    again = browser.post(f"/admin/tenants/tenant/{tenant.id}/back-up/", {"reason": ""})
    assert "already waiting or running" in again.content.decode()
    with forked(_hold_lock, tenant.id) as (_process, heard):
        assert heard.recv() == "locked"
        work(request)
        assert request.status == RequestStatus.REQUESTED and request.due_at > timezone.now()
    OperationRequest.objects.filter(pk=request.pk).update(due_at=timezone.now() - timedelta(seconds=1))
    assert work(request).status == RequestStatus.DONE


def test_an_operation_on_all_tenants_names_none() -> None:
    assert (
        OperationAlreadyRequested("", "migrate").message
        == "An operation of the same kind (migrate) is already waiting or running."
    )


def test_an_operation_that_failed_and_was_undone_is_not_called_interrupted() -> None:
    """Its worker was lost between the undoing and the end of the request."""
    failed = TenantOperation(kind="restore", status=OperationStatus.UNDONE, error="The disk is full.")
    with pytest.raises(OperationUndone) as error:
        _operation(OperationRequest(kind="restore"), failed, lambda _step, _done, _total: None)
    assert error.value.message == "The operation was undone; nothing was changed. The disk is full."


def _hold_lock(said: Any, tenant_id: str) -> None:
    with tenant_lock(tenant_id):
        said.send("locked")
        threading.Event().wait()


def test_nobody_requests_what_they_may_not_and_a_withdrawn_permission_counts(staff: User, tenant: Tenant) -> None:
    browser = Client()
    browser.force_login(staff)
    url = f"/admin/tenants/tenant/{tenant.id}/back-up/"
    given = give_role(staff, "viewer", tenant)
    assert browser.get(url).status_code == 403 and browser.post(url, {"reason": ""}).status_code == 403
    given.delete()
    given = give_role(staff, "operator", tenant)
    request = ask(browser, tenant, "back-up")
    assert browser.get(f"/admin/tenants/operationrequest/{request.pk}/progress/").status_code == 200
    given.delete()
    work(request)
    assert (request.status, request.error_code) == (RequestStatus.REFUSED, "operation_not_allowed")
    assert not Backup.objects.filter(tenant_id=tenant.id).exists()


def test_a_suspended_tenant_can_be_backed_up_and_restored(browser: Client, tenant: Tenant) -> None:
    tenant_suspend(tenant_id=tenant.id)
    page = browser.get(f"/admin/tenants/tenant/{tenant.id}/change/").content.decode()
    assert re.search(r'href="[^"]*/back-up/?"', page)
    assert re.search(r'href="[^"]*/restore/?"', page)
