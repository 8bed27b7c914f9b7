"""Erasing a tenant: what is refused, what can be accepted, who is locked out, and what a later check finds."""

from __future__ import annotations

import json
import re
import shutil
import threading
import uuid
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from celery import current_app
from django.core.cache import cache
from django.db import IntegrityError, connections, transaction
from psycopg.types.json import Jsonb
from pytest_django import Settings

from audit.control.models import AuditArchive, ControlAuditLog
from audit.log.archive import archived_lines
from audit.verification.verify import audit_verify
from config.base.errors import shown_on_page
from runs import storage
from runs.models import Run, Step
from tenants.backup.backup import tenant_backup
from tenants.erasure.cache import cache_key
from tenants.erasure.delete import tenant_delete, tenant_loss
from tenants.erasure.inventory import databases_saying
from tenants.erasure.verify import erasures_verify
from tenants.erasure_ledger import digest_of
from tenants.errors import (
    DeletionRefused,
    DeletionUnfinished,
    ErasedTenant,
    FleetBusy,
    ImportRefused,
    StorageError,
    TenantBusy,
    TenantError,
    TenantExists,
    TenantNotActive,
    TenantUnfinished,
    TenantWithoutServer,
    UnknownErasure,
    UnknownTenant,
)
from tenants.files import tenant_storage
from tenants.files.locations import s3_client
from tenants.fleet.migrate import tenant_migrate
from tenants.lifecycle.create import tenant_create
from tenants.lifecycle.suspend import tenant_resume, tenant_suspend
from tenants.models import (
    Backup,
    BackupStatus,
    DatabaseServer,
    Erasure,
    OperationRequest,
    RequestKind,
    Tenant,
    TenantOperation,
    TenantStatus,
    database_prefix,
)
from tenants.operations import block_deletion, operation_begin, tenant_lock
from tenants.restore.drill import tenant_drill
from tenants.restore.restore import tenant_restore
from tenants.restore.verify_backup import backups_verify
from tenants.retention.prune import backup_remove
from tenants.routing.context import tenant_context
from tenants.schema.inspection import database_of
from tenants.servers.session import ServerSession, owner_url
from tenants.transfer.clone import tenant_clone
from tenants.transfer.export import tenant_export
from tenants.transfer.import_ import tenant_import
from tenants.types import Progress
from tenants.unfinished import tenant_recover
from tests.support.program import seo_gen
from tests.support.tenant_fixtures import MakeTenant, remove
from tests.tenants.support.archives import archived_postgres
from tests.tenants.support.backups import back_up
from tests.tenants.support.canaries import add_messages
from tests.tenants.support.created import tenants_objects
from tests.tenants.support.erased import forge
from tests.tenants.support.filled import add_run, as_superuser, everything_of

pytestmark = pytest.mark.usefixtures("forgotten")


def break_log(tenant: Tenant) -> None:
    with as_superuser(tenant) as connection:
        connection.execute("ALTER TABLE audit_logs DISABLE TRIGGER ALL")
        connection.execute("UPDATE audit_logs SET action = 'forged' WHERE sequence = 1")
        connection.execute("ALTER TABLE audit_logs ENABLE TRIGGER ALL")


def certificate_of(row: Erasure) -> dict[str, Any]:
    assert row.certificate is not None
    return row.certificate  # type: ignore[no-any-return]


def problems(tenant: Tenant) -> list[str]:
    [check] = erasures_verify(tenant_id=tenant.id)
    return check.problems


# -- what it does ------------------------------------------------------------------------------------------------------


def test_everything_is_erased_and_certified(tenant: Tenant, tmp_path: Path) -> None:
    add_run(tenant)
    add_run(tenant)
    file = back_up(tenant, tmp_path, with_storage=True)
    tenant_export(tenant_id=tenant.id, output=str(tmp_path / "bundle.tar"))
    loss = tenant_loss(tenant_id=tenant.id)
    database = database_of(tenant)
    row = tenant_delete(tenant_id=tenant.id)
    tenant.refresh_from_db()
    assert (tenant.status, tenant.is_active, tenant.database_url, tenant.server) == ("deleted", False, "", None)
    assert tenant.name == tenant.id
    assert tenants_objects(database) == []
    assert list(tmp_path.iterdir()) == []
    erased = certificate_of(row)["erased"]
    assert [one["name"] for one in erased["databases"]] == [database]
    assert erased["rows"]["runs"] == loss.rows["runs"] == 2
    assert erased["storage"] == {
        "place": str(tenant_storage.place_of(tenant.id)),
        "objects": 4,
        "versions": 4,
        "size_bytes": loss.storage.size_bytes,
        "list_sha256": loss.storage.list_sha256,
    }
    kinds = [(one["kind"], one["file"], one["is_there"]) for one in erased["backups"]]
    assert kinds == [("backup", file, True), ("export", str(tmp_path / "bundle.tar"), True)]
    assert row.digest == digest_of(certificate_of(row))
    assert problems(tenant) == []


def test_errors_that_may_quote_the_tenants_contents_are_cleared(tenant_pair: tuple[Tenant, Tenant]) -> None:
    tenant, other = tenant_pair
    quoting = [
        OperationRequest.objects.create(kind=kind, tenant_id=about, status="failed", requested_by="test", error=error)
        for kind, about, error in (
            (RequestKind.BACKUP, tenant.id, "Key (keyword)=(secret) already exists."),
            (RequestKind.MIGRATE, "", f"Tenant {tenant.id}: Key (keyword)=(secret) already exists."),
            (RequestKind.PROMPT_COPY, other.id, f"Tenant {tenant.id}: Key (step)=(secret) already exists."),
            (RequestKind.MIGRATE, "", f"Tenant {other.id}: Key (keyword)=(theirs) already exists."),
            (RequestKind.PROMPT_UNDO, "", f"Tenant {tenant.id}-2: Key (keyword)=(theirs) already exists."),
        )
    ]
    tenant_delete(tenant_id=tenant.id)
    errors = [OperationRequest.objects.get(pk=request.pk).error for request in quoting]
    assert errors == ["", "", "", quoting[3].error, quoting[4].error]


def test_the_audit_log_is_kept_whole_and_bound_into_the_control_log(tenant: Tenant) -> None:
    add_run(tenant)
    with as_superuser(tenant) as connection:
        entries = connection.execute("SELECT count(*), max(entry_hash) FROM audit_logs").fetchall()[0][0]
    row = tenant_delete(tenant_id=tenant.id)
    archive = AuditArchive.objects.get(identity=tenant.identity)
    assert archive.entries == entries == len(list(archived_lines(tenant.identity)))
    assert archive.first_bad is None
    details = ControlAuditLog.objects.get(action="audit.archive", resource_id=tenant.id).details
    assert details is not None and details["digest"] == archive.digest
    completed = ControlAuditLog.objects.get(action="tenant.delete.complete", resource_id=tenant.id).details
    assert completed is not None and completed["certificate"] == row.digest
    assert [one.problems for one in audit_verify(tenant_id=tenant.id)] == [[], []]
    steps = ControlAuditLog.objects.filter(action="tenant.delete.step", resource_id=tenant.id).order_by("sequence")
    assert [(one or {})["step"] for one in steps.values_list("details", flat=True)] == [
        *("closed", "marked", "archived", "listed", "storage", "backups", "messages", "databases", "credentials")
    ]


def test_a_locked_log_stops_the_deletion_and_other_recoveries_continue(
    tenant_pair: tuple[Tenant, Tenant], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant, other = tenant_pair
    settings.DATABASE_LIMITS = replace(settings.DATABASE_LIMITS, lock_timeout_s=0.2)
    with ExitStack() as stack:

        def lock(progress: Progress) -> None:
            if progress.step == "archive":
                holder = stack.enter_context(as_superuser(tenant))
                holder.execute("LOCK TABLE audit_logs")

        with pytest.raises(DeletionUnfinished, match=r"is closed, but not deleted yet\. A lock was not granted"):
            tenant_delete(tenant_id=tenant.id, on_progress=lock)
        cut_off(other, monkeypatch)
        outcomes = {one.tenant_id: one for one in tenant_recover()}
        assert outcomes[tenant.id].outcome == "failed" and "A lock was not granted" in outcomes[tenant.id].reason
        assert outcomes[other.id].outcome == "finished"
    [recovered] = tenant_recover()
    assert recovered.outcome == "finished"


def test_a_second_call_does_nothing(tenant: Tenant) -> None:
    row = tenant_delete(tenant_id=tenant.id)
    entries = ControlAuditLog.objects.filter(resource_id=tenant.id).count()
    assert tenant_delete(tenant_id=tenant.id).pk == row.pk
    assert ControlAuditLog.objects.filter(resource_id=tenant.id).count() == entries


def test_a_suspended_tenant_can_be_erased(tenant: Tenant) -> None:
    tenant_suspend(tenant_id=tenant.id)
    assert tenant_delete(tenant_id=tenant.id).certificate is not None


def test_replaced_databases_and_kept_files_are_erased(tenant: Tenant, tmp_path: Path) -> None:
    add_run(tenant)
    file = back_up(tenant, tmp_path)
    tenant_restore(tenant_id=tenant.id, backup_file=file)
    row = tenant_delete(tenant_id=tenant.id)
    kinds = sorted(one["kind"] for one in certificate_of(row)["erased"]["databases"])
    assert kinds == ["kept", "live"]
    assert tenant.server is not None
    with ServerSession(tenant.server, database_prefix()) as server_session:
        assert databases_saying(server_session, tenant.identity, but=())[0] == []


def test_only_own_messages_and_cache_keys_are_erased(tenant_pair: tuple[Tenant, Tenant]) -> None:
    tenant, other = tenant_pair
    add_messages((tenant, "mine"), (other, "other"))
    cache.set_many({cache_key(one.id, "x"): 1 for one in tenant_pair})
    row = tenant_delete(tenant_id=tenant.id)
    assert certificate_of(row)["erased"]["messages"] == 2
    assert certificate_of(row)["erased"]["cache_keys"] == 1
    assert cache.get(cache_key(other.id, "x")) == 1
    tenant_delete(tenant_id=other.id)
    assert certificate_of(Erasure.objects.get(tenant_id=other.id))["erased"]["messages"] == 2


def test_other_tenants_are_unchanged(make_tenant: MakeTenant, tmp_path: Path) -> None:
    """This includes tenants whose ids start with the erased one's id, or the other way round."""
    tenant = make_tenant(name="acme", tenant_id="acme-1")
    others = [make_tenant(name=f"other {one}", tenant_id=one) for one in ("acme-1-2", "acme", "acme-11")]
    for one in (tenant, *others):
        add_run(one)
        back_up(one, tmp_path)
    before = [everything_of(one) for one in others]
    files = {path: path.read_bytes() for path in tmp_path.iterdir() if not re.match(r"acme-1-\d{8}T", path.name)}
    tenant_delete(tenant_id=tenant.id)
    assert [everything_of(one) for one in others] == before
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == files
    for one in others:
        with tenant_context(one) as alias:
            assert Run.objects.using(alias).count() == 1


# -- what stands in the way --------------------------------------------------------------------------------------------


def test_refused_deletion_changes_nothing(tenant: Tenant) -> None:
    before = everything_of(tenant)
    with pytest.raises(UnknownTenant):
        tenant_delete(tenant_id="nobody")
    with tenant_lock(tenant.id), pytest.raises(TenantBusy):
        run_elsewhere(lambda: tenant_delete(tenant_id=tenant.id))
    with transaction.atomic(using="default"):
        operation = operation_begin(tenant_id=tenant.id, kind="restore")
    with pytest.raises(TenantUnfinished):
        tenant_delete(tenant_id=tenant.id)
    TenantOperation.objects.filter(pk=operation.pk).delete()
    Tenant.objects.filter(pk=tenant.pk).update(server=None)
    with pytest.raises(TenantWithoutServer, match="no registered server"):
        tenant_delete(tenant_id=tenant.id)
    Tenant.objects.filter(pk=tenant.pk).update(server=DatabaseServer.objects.get(is_default=True))
    assert everything_of(tenant) == before
    assert not Erasure.objects.filter(tenant_id=tenant.id).exists()


def test_deletion_waits_for_a_fleet_migration(tenant: Tenant) -> None:
    from tenants.fleet.batch import fleet_lock

    with fleet_lock(), pytest.raises(FleetBusy):
        run_elsewhere(lambda: tenant_delete(tenant_id=tenant.id))
    assert not Erasure.objects.filter(tenant_id=tenant.id).exists()


def test_a_broken_audit_log_is_refused_unless_accepted(tenant: Tenant) -> None:
    add_run(tenant)
    break_log(tenant)
    with pytest.raises(DeletionRefused, match=r"broken at entry 1.*--accept-audit-loss"):
        tenant_delete(tenant_id=tenant.id)
    with shown_on_page(), pytest.raises(DeletionRefused, match="switch on “Continue even if the tenant's audit log is"):
        tenant_delete(tenant_id=tenant.id)
    with tenant_context(tenant):
        pass
    row = tenant_delete(tenant_id=tenant.id, accept_audit_loss=True)
    assert certificate_of(row)["remains"]["audit"]["first_bad"] == 1
    assert problems(tenant) == []
    assert [one.problems for one in audit_verify(tenant_id=tenant.id) if one.log == "archive"] == [[]]


def test_a_fault_of_the_control_database_is_no_loss_that_can_be_accepted(tenant: Tenant) -> None:
    add_run(tenant)
    with connections["control-owner"].cursor() as owner:
        owner.execute("ALTER TABLE archived_audit_logs ADD CONSTRAINT refused CHECK (tenant_id <> %s)", [tenant.id])
        try:
            with pytest.raises(IntegrityError, match="refused"):
                tenant_delete(tenant_id=tenant.id, accept_audit_loss=True)
        finally:
            owner.execute("ALTER TABLE archived_audit_logs DROP CONSTRAINT refused")
    row = tenant_delete(tenant_id=tenant.id, accept_audit_loss=True)
    assert certificate_of(row)["remains"]["audit"]["entries"] > 0
    assert [one.problems for one in audit_verify(tenant_id=tenant.id) if one.log == "archive"] == [[]]


def test_a_database_that_is_gone_is_refused_unless_accepted(tenant: Tenant) -> None:
    assert tenant.server is not None
    with ServerSession(tenant.server, database_prefix()) as server_session:
        server_session.drop_database(database_of(tenant))
    with pytest.raises(DeletionRefused, match="Its database is gone"):
        tenant_delete(tenant_id=tenant.id)
    row = tenant_delete(tenant_id=tenant.id, accept_audit_loss=True)
    assert certificate_of(row)["remains"]["audit"]["entries"] is None
    assert certificate_of(row)["erased"]["databases"] == []
    assert problems(tenant) == []
    assert [one.problems for one in audit_verify(tenant_id=tenant.id) if one.log == "archive"] == [[]]


def test_a_backup_out_of_reach_keeps_it_unfinished_and_closed(
    tenant: Tenant, s3_place: str, settings: Settings
) -> None:
    back_up(tenant, s3_place)
    endpoint, settings.AWS_S3_ENDPOINT_URL = settings.AWS_S3_ENDPOINT_URL, "http://127.0.0.1:9"
    with pytest.raises(DeletionUnfinished, match=r"closed, but not deleted yet.*--accept-lost-backups"):
        tenant_delete(tenant_id=tenant.id)
    for attempt in (
        lambda: tenant_context(tenant).__enter__(),
        lambda: tenant_resume(tenant_id=tenant.id),
        lambda: tenant_backup(tenant_id=tenant.id, output="/tmp/never"),
        lambda: tenant_drill(tenant_id=tenant.id),
        lambda: tenant_create(name=tenant.name, tenant_id=tenant.id),
        lambda: tenant_clone(tenant_id=tenant.id, new_id="copy-of-it", backup_file="/tmp/never"),
    ):
        with pytest.raises(TenantError):
            attempt()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(tenant.database_url)
    assert tenant_migrate(tenant_id=None).outcome == "completed"  # no one else waits for it
    [recovery] = tenant_recover()
    assert (recovery.tenant_id, recovery.kind, recovery.outcome) == (tenant.id, "delete", "failed")
    with shown_on_page():
        [recovery] = tenant_recover()
    assert "Fix this, then press “Recover” on the operation's page. To leave these files instead" in recovery.reason
    assert f"`seo-gen tenant delete --tenant-id {tenant.id} --accept-lost-backups`" in recovery.reason
    settings.AWS_S3_ENDPOINT_URL = endpoint
    assert [(one.kind, one.outcome) for one in tenant_recover()] == [("delete", "finished")]
    assert Backup.objects.get(tenant_id=tenant.id).status == BackupStatus.REMOVED
    assert problems(tenant) == []


def test_a_backup_out_of_reach_can_be_accepted_and_is_named(tenant: Tenant, s3_place: str, settings: Settings) -> None:
    file = back_up(tenant, s3_place)
    endpoint, settings.AWS_S3_ENDPOINT_URL = settings.AWS_S3_ENDPOINT_URL, "http://127.0.0.1:9"
    row = tenant_delete(tenant_id=tenant.id, accept_lost_backups=True)
    remaining = certificate_of(row)["remains"]["backups"]
    assert [one["file"] for one in remaining["backups"]] == [file]
    assert certificate_of(row)["erased"]["backups"] == []
    assert certificate_of(row)["accepted"] == ["lost backups"]
    [check] = erasures_verify(tenant_id=tenant.id)
    assert check.problems == []
    assert f"{file} was not removed, and cannot be checked." in check.remaining
    assert any(one.startswith(s3_place) for one in check.unseen)
    settings.AWS_S3_ENDPOINT_URL = endpoint
    assert problems(tenant) == [f"Files of {file}, or older versions of them, exist."]


def test_a_pruned_backup_is_erased_where_the_bucket_keeps_versions(tenant: Tenant, s3_place: str) -> None:
    client, bucket = s3_client(), f"versions-{uuid.uuid4().hex[:8]}"
    client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    place = f"s3://{bucket}/backups"
    file = back_up(tenant, place)
    backup_remove(Backup.objects.get(tenant_id=tenant.id))
    assert client.list_object_versions(Bucket=bucket)["Versions"]
    row = tenant_delete(tenant_id=tenant.id)
    assert [one["file"] for one in certificate_of(row)["erased"]["backups"]] == [file]
    left = client.list_object_versions(Bucket=bucket)
    assert not left.get("Versions") and not left.get("DeleteMarkers")
    assert problems(tenant) == []


def test_backup_without_files_is_not_certified_as_erased(tenant: Tenant, tmp_path: Path) -> None:
    back_up(tenant, tmp_path / "gone")
    shutil.rmtree(tmp_path / "gone")
    row = tenant_delete(tenant_id=tenant.id)
    assert [one["is_there"] for one in certificate_of(row)["erased"]["backups"]] == [False]


@pytest.mark.parametrize("down", ["storage", "broker", "cache"])
def test_deletion_stays_unfinished_while_a_service_is_down(
    tenant: Tenant, settings: Settings, monkeypatch: pytest.MonkeyPatch, s3_place: str, down: str
) -> None:
    add_run(tenant)
    storages_before = settings.STORAGES
    with monkeypatch.context() as patch:
        if down == "storage":
            options = {"bucket_name": "x", "endpoint_url": "http://127.0.0.1:9", "region_name": "us-east-1"}
            broken = {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options}
            settings.STORAGES = {**storages_before, "artifacts": broken}
        elif down == "broker":
            nowhere = current_app.connection_for_write("redis://127.0.0.1:9/0")
            patch.setattr(current_app, "connection_for_write", lambda **_options: nowhere)
        else:
            patch.setitem(settings.CACHES["default"], "LOCATION", "redis://127.0.0.1:9/0")
        with pytest.raises(DeletionUnfinished):
            tenant_delete(tenant_id=tenant.id)
        assert Tenant.objects.get(pk=tenant.pk).status == TenantStatus.DELETING
    settings.STORAGES = storages_before
    assert [(one.outcome, one.reason) for one in tenant_recover()] == [("finished", "")]
    assert problems(tenant) == []


def test_prepared_transactions_are_rolled_back(tenant: Tenant) -> None:
    assert tenant.server is not None
    for number, url in enumerate((tenant.database_url, owner_url(tenant.server, database_of(tenant)))):
        with psycopg.connect(url) as connection:
            connection.execute("SELECT 1 FROM runs")
            connection.execute(f"PREPARE TRANSACTION 'by hand {number}'".encode())
    row = tenant_delete(tenant_id=tenant.id)
    assert tenants_objects(row.database) == []


def cut_off(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start a deletion that lists what exists, then stays unfinished because the storage is down."""

    def fail(_tenant_id: str) -> int:
        raise StorageError("down")

    with monkeypatch.context() as patch:
        patch.setattr(tenant_storage, "erase_all", fail)
        with pytest.raises(DeletionUnfinished):
            tenant_delete(tenant_id=tenant.id)


def test_unknown_server_does_not_block_other_recoveries(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_off(tenant, monkeypatch)
    Tenant.objects.filter(pk=tenant.pk).update(server=None)
    [recovery] = tenant_recover()
    assert recovery.outcome == "failed" and "has no registered server" in recovery.reason
    Tenant.objects.filter(pk=tenant.pk).update(server=tenant.server)
    assert [one.outcome for one in tenant_recover()] == ["finished"]


def test_deletion_refuses_a_different_server(tenant: Tenant, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cut_off(tenant, monkeypatch)
    with archived_postgres(tmp_path, "another") as other:
        Tenant.objects.filter(pk=tenant.pk).update(server=other)
        with pytest.raises(DeletionUnfinished, match="is not the one on which this deletion started"):
            tenant_delete(tenant_id=tenant.id)
        Tenant.objects.filter(pk=tenant.pk).update(server=tenant.server)
    tenant_delete(tenant_id=tenant.id)
    assert problems(tenant) == []


def test_deletion_waits_for_a_drill(tenant: Tenant) -> None:
    with block_deletion(tenant.id), pytest.raises(TenantBusy, match="another process is working on it"):
        run_elsewhere(lambda: tenant_delete(tenant_id=tenant.id))
    assert not Erasure.objects.filter(tenant_id=tenant.id).exists()


# -- running workers ---------------------------------------------------------------------------------------------------


def test_open_transaction_may_end_and_its_file_is_erased(tenant: Tenant) -> None:
    run = add_run(tenant)
    path = f"{tenant_storage.prefix_of(tenant.id)}{run}/draft/artifacts/late.md"
    writing, ended, given_up = threading.Event(), threading.Event(), threading.Event()

    def write() -> None:
        with tenant_context(tenant) as alias, transaction.atomic(using=alias):
            Step.objects.using(alias).select_for_update().get(run_id=run)
            writing.set()
            # Until the tenant is closed to all later sessions.
            while Tenant.objects.get(pk=tenant.pk).status != TenantStatus.DELETING and not given_up.wait(0.02):
                pass
            storage.write(path, b"late")
        ended.set()
        connections["default"].close()

    worker = threading.Thread(target=write)
    worker.start()
    try:
        assert writing.wait(10)
        row = tenant_delete(tenant_id=tenant.id)
    finally:
        given_up.set()
        worker.join()
    assert ended.is_set()
    assert certificate_of(row)["erased"]["storage"]["objects"] == 3
    assert list(tenant_storage.versions_of(tenant.id)) == []


def test_a_warm_connection_of_another_thread_is_cut(tenant: Tenant) -> None:
    with psycopg.connect(tenant.database_url, autocommit=True) as warm:
        warm.execute("SELECT 1")
        tenant_delete(tenant_id=tenant.id)
        with pytest.raises(psycopg.OperationalError):
            warm.execute("SELECT count(*) FROM runs")
    with pytest.raises(TenantNotActive, match="deleted"):
        tenant_context(tenant).__enter__()


# -- it does not come back ---------------------------------------------------------------------------------------------


def test_an_erased_tenant_is_not_restored_or_imported(tenant: Tenant, tmp_path: Path) -> None:
    add_run(tenant)
    file = back_up(tenant, tmp_path / "a", with_storage=True)
    bundle = str(tmp_path / "a" / "bundle.tar")
    tenant_export(tenant_id=tenant.id, output=bundle)
    shutil.copytree(tmp_path / "a", tmp_path / "copied")  # by hand
    file, bundle = (one.replace("/a/", "/copied/") for one in (file, bundle))
    tenant_delete(tenant_id=tenant.id)
    with pytest.raises(TenantExists, match="cannot be reused"):
        tenant_create(name="again", tenant_id=tenant.id)
    with pytest.raises(TenantNotActive, match="is deleted"):
        tenant_restore(tenant_id=tenant.id, backup_file=file)
    with pytest.raises(ErasedTenant, match="--from-erased"):
        tenant_clone(tenant_id=tenant.id, new_id=f"back-{tenant.id}", backup_file=file)
    for new_id in (None, f"back-{tenant.id}"):
        with pytest.raises((TenantExists, ImportRefused)):
            tenant_import(file=bundle, new_id=new_id)
    with pytest.raises(ImportRefused, match="was erased"):
        tenant_import(file=bundle, new_id=f"back-{tenant.id}", from_erased="  ")
    [verification] = backups_verify(file=file)
    assert "was erased" in verification.problem
    assert not Tenant.objects.filter(pk=f"back-{tenant.id}").exists()


@pytest.mark.parametrize("way", ["backup", "bundle"])
def test_restore_with_a_reason_is_recorded(tenant: Tenant, tmp_path: Path, way: str) -> None:
    add_run(tenant)
    file = back_up(tenant, tmp_path / "a", with_storage=True)
    bundle = str(tmp_path / "a" / "bundle.tar")
    tenant_export(tenant_id=tenant.id, output=bundle)
    shutil.copytree(tmp_path / "a", tmp_path / "copied")
    file, bundle = (one.replace("/a/", "/copied/") for one in (file, bundle))
    tenant_delete(tenant_id=tenant.id)
    new_id, reason = f"back-{tenant.id}"[:41], "The court's order 7/2026"
    if way == "backup":
        tenant_clone(tenant_id=tenant.id, new_id=new_id, backup_file=file, from_erased=reason)
    else:
        tenant_import(file=bundle, new_id=new_id, from_erased=reason)
    with tenant_context(new_id) as alias:
        assert Run.objects.using(alias).count() == 1
    details = ControlAuditLog.objects.get(action="tenant.erased.return", resource_id=tenant.id).details
    assert details is not None and (details["new_id"], details["reason"]) == (new_id, reason)
    assert any(f"came back as tenant {new_id}" in one and reason in one for one in problems(tenant))
    remove(Tenant.objects.get(pk=new_id))


def test_clone_is_listed_in_the_certificate(tenant: Tenant, tmp_path: Path) -> None:
    new_id = f"copy-{tenant.id}"[:41]
    tenant_clone(tenant_id=tenant.id, new_id=new_id, backup_file=back_up(tenant, tmp_path))
    row = tenant_delete(tenant_id=tenant.id)
    assert certificate_of(row)["remains"]["copies"]["tenants"] == [new_id]
    assert tenant_delete(tenant_id=new_id).certificate is not None


# -- looking again -----------------------------------------------------------------------------------------------------


def test_verify_finds_data_that_came_back(tenant: Tenant, tmp_path: Path) -> None:
    add_run(tenant)
    file = Path(back_up(tenant, tmp_path))
    dump = file.read_bytes()
    database = database_of(tenant)
    server = tenant.server
    assert server is not None
    with ServerSession(server, database_prefix()) as server_session:
        server_session.fence(database, database, 0)
        server_session.clone(database, "copied_by_hand")
        server_session.open_to_owner("copied_by_hand")
    row = tenant_delete(tenant_id=tenant.id)
    assert problems(tenant) == [f"Database copied_by_hand on server {server.name} has this tenant's identity."]
    with ServerSession(server, database_prefix()) as server_session:
        server_session.drop_database("copied_by_hand")
        server_session.create_empty_database(database)
        server_session.ensure_login(database, "x")
    found = problems(tenant)
    assert f"Database {database} exists on server {server.name}." in found
    assert f"Role {database} exists on server {server.name}." in found
    with ServerSession(server, database_prefix()) as server_session:
        server_session.drop_database(database)
        server_session.drop_role(database)
    file.write_bytes(dump)
    copy = file.with_name(f"{tenant.id}-20260101T000000Z-00000000.dump")
    copy.write_bytes(dump)
    assert problems(tenant) == [
        f"Files of {file}, or older versions of them, exist.",
        f"{copy} exists, but is not in the catalogue.",
    ]
    file.unlink()
    copy.unlink()
    tenant_storage.write_all({f"{tenant_storage.prefix_of(tenant.id)}x": b"x"})
    assert "1 file version under the tenant's prefix" in problems(tenant)[0]
    tenant_storage.erase_all(tenant.id)
    add_messages((tenant, "late"))
    cache.set(cache_key(tenant.id, "x"), 1)
    assert [one[:29] for one in problems(tenant)] == ["The queues still contain 2 me", "The cache still has 1 of the "]
    forge(row, "certificate = %s", Jsonb({**certificate_of(row), "tenant_id": "another"}))
    assert any("The certificate, or its sha256 in the ledger," in one for one in problems(tenant))
    forge(row, "certificate = %s", Jsonb(certificate_of(row)))
    Tenant.objects.filter(pk=tenant.pk).delete()
    assert any("The tombstone is gone" in one for one in problems(tenant))


def test_backups_past_their_retention_are_a_problem(tenant: Tenant, settings: Settings) -> None:
    settings.CLUSTER_BACKUP_RETENTION_DAYS = -1
    tenant_delete(tenant_id=tenant.id)
    assert any("contain the tenant's changes" in one for one in problems(tenant))


def test_a_wal_archive_out_of_reach_does_not_end_the_verification(tenant: Tenant) -> None:
    row = tenant_delete(tenant_id=tenant.id)
    assert Erasure.objects.get(pk=row.pk).rewritten_segment  # so that the control database's server is checked twice
    server = DatabaseServer.objects.filter(pk=tenant.server_id)
    before = server.get().wal_archive
    server.update(wal_archive="s3://nowhere-at-all/wal")
    try:
        [problem] = problems(tenant)
    finally:
        server.update(wal_archive=before)
    assert "nowhere-at-all" in problem
    entry = ControlAuditLog.objects.filter(action="erasure.verify", resource_id=tenant.id).latest("id")
    assert entry.details is not None and entry.details["problems"] == 1


def test_a_database_of_ours_that_cannot_be_read_was_not_checked(tenant: Tenant) -> None:
    server = tenant.server
    assert server is not None
    with ServerSession(server, database_prefix()) as server_session:
        server_session.create_empty_database("closed_by_hand")
        owner = server_session.owner
    with as_superuser(tenant) as connection:
        connection.execute(f"REVOKE ALL ON DATABASE closed_by_hand FROM {owner}".encode())
    tenant_delete(tenant_id=tenant.id)
    [check] = erasures_verify(tenant_id=tenant.id)
    with ServerSession(server, database_prefix()) as server_session:
        server_session.drop_database("closed_by_hand")
    beginning = f"On server {server.name}, these databases belong to other roles or cannot be read: "
    [unseen] = [one for one in check.unseen if one.startswith(beginning)]
    assert "closed_by_hand" in unseen.removeprefix(beginning).removesuffix(".").split(", ")


def test_the_archive_of_another_tool_is_not_checked(tenant: Tenant) -> None:
    tenant_delete(tenant_id=tenant.id)
    servers = DatabaseServer.objects.filter(is_default=True)
    [before] = servers.values_list("wal_restore_command", flat=True)
    servers.update(wal_restore_command="another-tool %f %p")
    try:
        [check] = erasures_verify(tenant_id=tenant.id)
    finally:
        servers.update(wal_restore_command=before)
    sentence = f"Another tool archives the WAL of server {servers.get().name}; that tool's retention applies."
    assert sentence in check.unseen and sentence not in [*check.remaining, *check.problems]


def test_verify_requires_an_erasure(tenant: Tenant) -> None:
    with pytest.raises(UnknownErasure):
        erasures_verify(tenant_id=tenant.id)


# -- commands ----------------------------------------------------------------------------------------------------------


def test_unconfirmed_deletion_does_nothing(tenant: Tenant) -> None:
    before = everything_of(tenant)
    result = seo_gen("tenant", "delete", "--tenant-id", tenant.id)
    assert result.returncode == 1
    assert "Pass --confirm" in result.stderr and "It has no completed backup." in result.stderr
    assert everything_of(tenant) == before


def test_commands(tenant: Tenant, tmp_path: Path) -> None:
    add_run(tenant)
    back_up(tenant, tmp_path)
    result = seo_gen("tenant", "delete", "--tenant-id", tenant.id, "--confirm", "--json")
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["certificate"]["tenant_id"] == tenant.id
    shown = seo_gen("tenant", "delete", "--tenant-id", tenant.id)
    assert shown.returncode == 0 and "was already erased" in shown.stdout
    for text in (document["sha256"], "What was erased", "What remains, and why", "Until", str(tmp_path)):
        assert text in shown.stdout
    assert tenant.id in seo_gen("erasure", "list").stdout
    tenant_storage.write_all({f"{tenant_storage.prefix_of(tenant.id)}x": b"x"})
    verified = seo_gen("erasure", "verify", "--tenant-id", tenant.id)
    assert verified.returncode == 1 and f"{tenant.id}: The storage holds 1 file version" in verified.stderr
    tenant_storage.erase_all(tenant.id)


def run_elsewhere(call: object) -> None:
    """Run `call` in another thread, which has its own connections and locks; raise what it raises."""
    from concurrent.futures import ThreadPoolExecutor

    def act() -> None:
        try:
            call()  # type: ignore[operator]
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(act).result()
