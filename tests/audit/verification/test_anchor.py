"""Unbroken logs are anchored; the anchors are bound to the control log and copied; changes to them are reported."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from threading import Event
from typing import Any
from uuid import uuid4

import boto3
import psycopg
import pytest
from botocore.exceptions import ClientError
from django.core.management import CommandError, call_command
from pytest_django import Settings

from audit.control.models import AuditAnchor, ControlAuditLog
from audit.tasks import anchor
from audit.verification.anchor import audit_anchor
from audit.verification.anchors import Anchor, Document, anchors_digest
from audit.verification.log_check import Kind, LogReport
from audit.verification.verify import audit_verify
from tenants.lifecycle.suspend import tenant_suspend
from tenants.models import Tenant
from tests.audit.attacks import Victim, guards_on, put_back
from tests.audit.conftest import Log
from tests.support.s3 import S3Server

FORBIDDEN = ("UPDATE audit_anchors SET sequence = 0", "DELETE FROM audit_anchors", "TRUNCATE audit_anchors")


@pytest.fixture(autouse=True)
def _as_before(control_log: Log) -> Iterator[None]:
    with put_back(control_log):
        yield


@pytest.fixture
def control(control_log: Log, tenant: Tenant) -> Victim:
    return Victim(control_log, tenant)


@pytest.fixture
def folder(tmp_path: Path, settings: Settings) -> Path:
    settings.AUDIT_ANCHOR_OUTPUT = str(tmp_path)
    return tmp_path


@pytest.fixture
def change_anchors(control_log: Log) -> Callable[[str], None]:
    def change(statement: str) -> None:
        with control_log.as_superuser() as superuser:
            superuser.execute("ALTER TABLE audit_anchors DISABLE TRIGGER ALL")
            superuser.execute(statement)
            guards_on(superuser, ("audit_anchors",))

    return change


def kinds(report: LogReport) -> list[Kind]:
    return [one.kind for one in report.problems]


def last_entry() -> ControlAuditLog:
    return ControlAuditLog.objects.filter(action="audit.anchor").latest("sequence")


# -- Taking them -------------------------------------------------------------------------------------------------


def test_each_log_is_anchored_at_its_end_if_it_has_new_entries(tenant: Tenant, tenant_log: Log) -> None:
    first = audit_anchor()
    with tenant_log.as_superuser() as superuser:
        heads = superuser.execute("SELECT sequence, hash FROM audit_chain_heads").fetchall()
    rows = AuditAnchor.objects.filter(identity=tenant.identity)
    assert list(rows.values_list("sequence", "hash")) == heads
    second = audit_anchor()
    assert AuditAnchor.objects.filter(run=second.run).values_list("identity", flat=True).get() is None
    with tenant_log.as_app() as app:
        app.execute(tenant_log.insert)
    audit_anchor()
    assert [row.sequence for row in rows.order_by("id")] == [heads[0][0], heads[0][0] + 1]
    assert first.problems == second.problems == []


def test_the_control_log_has_the_digest_of_a_run(tenant: Tenant) -> None:
    report = audit_anchor()
    anchors = [Anchor.of_row(row) for row in AuditAnchor.objects.filter(run=report.run)]
    assert last_entry().details == {"count": len(anchors), "digest": anchors_digest(anchors), "document": None}
    assert last_entry().resource_id == str(report.run)


def test_a_suspended_tenant_is_anchored_too(tenant: Tenant) -> None:
    tenant_suspend(tenant_id=tenant.id)
    audit_anchor()
    assert AuditAnchor.objects.filter(identity=tenant.identity).exists()


def test_an_unreachable_database_is_reported_and_the_others_are_anchored(tenant_pair: tuple[Tenant, Tenant]) -> None:
    away, there = tenant_pair
    Tenant.objects.filter(pk=away.pk).update(server=None)
    try:
        report = audit_anchor()
    finally:
        Tenant.objects.filter(pk=away.pk).update(server=there.server)
    assert [one for one in report.problems if f"Tenant {away.id} has no registered server" in one]
    assert AuditAnchor.objects.filter(identity=there.identity).exists()
    assert not AuditAnchor.objects.filter(identity=away.identity).exists()


def test_a_log_that_does_not_end_where_its_head_says_is_not_anchored(tenant: Tenant, tenant_log: Log) -> None:
    victim = Victim(tenant_log, tenant)
    victim.append(3)
    with victim.triggers_off() as superuser:
        superuser.execute("UPDATE audit_chain_heads SET hash = repeat('f', 64)")
    [problem] = audit_anchor().problems
    assert problem.startswith(f"Tenant {tenant.id}: the chain head does not confirm the end of the audit log")
    assert not AuditAnchor.objects.filter(identity=tenant.identity).exists()


def test_beat_anchors_too(tenant: Tenant) -> None:
    anchor()
    assert AuditAnchor.objects.filter(identity=tenant.identity).count() == 1
    assert last_entry().user_id == "worker:audit"


def test_concurrent_writers_are_not_reported_as_tampering(control: Victim, tenant_log: Log, folder: Path) -> None:
    ended = Event()

    def write(log: Log) -> int:
        written = 0
        with log.as_app() as app:
            while not ended.is_set():
                app.execute(log.insert)
                app.commit()
                written += 1
        return written

    with ThreadPoolExecutor(4) as threads:
        writers = [threads.submit(write, log) for log in (control.log, tenant_log) for _ in range(2)]
        try:
            found = [(audit_anchor().problems, audit_verify(tenant_id=control.tenant.id)) for _ in range(8)]
        finally:
            ended.set()
    assert [problems for problems, _reports in found] == [[]] * 8
    assert [one.problems for _problems, reports in found for one in reports] == [[]] * 16
    assert all(writer.result() for writer in writers)


# -- In the control database -------------------------------------------------------------------------------------


@pytest.mark.parametrize("statement", FORBIDDEN)
def test_the_application_may_only_read_and_append_anchors(control_log: Log, statement: str) -> None:
    with control_log.as_app() as app, pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.execute(statement)


@pytest.mark.parametrize("role", ["origin", "replica"])
@pytest.mark.parametrize("statement", FORBIDDEN)
def test_a_plain_statement_of_a_superuser_cannot_change_anchors(
    tenant: Tenant, control_log: Log, statement: str, role: str
) -> None:
    audit_anchor()
    with control_log.as_superuser() as superuser:
        superuser.execute(f"SET LOCAL session_replication_role = {role}")
        with pytest.raises(psycopg.errors.RaiseException, match="audit_anchors table does not allow"):
            superuser.execute(statement)
        superuser.rollback()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_anchors SET hash = repeat('0', 64) WHERE id = (SELECT max(id) FROM audit_anchors)",
        "DELETE FROM audit_anchors WHERE id = (SELECT max(id) FROM audit_anchors)",
        "DELETE FROM audit_anchors",
    ],
)
def test_changed_or_removed_anchors_are_reported(
    control: Victim, change_anchors: Callable[[str], None], statement: str
) -> None:
    audit_anchor()
    change_anchors(statement)
    assert Kind.ANCHOR in kinds(control.report())


def test_a_forged_anchor_is_reported(control: Victim, control_log: Log) -> None:
    audit_anchor()
    with control_log.as_app() as app:
        app.execute(
            "INSERT INTO audit_anchors (run, tenant_id, identity, sequence, hash, guard_hash, created_at)"
            " SELECT %s, tenant_id, identity, sequence, hash, guard_hash, created_at FROM audit_anchors LIMIT 1",
            [uuid4()],
        )
    [problem] = control.report().problems
    assert problem.kind == Kind.ANCHOR
    assert problem.message == "1 anchor is not recorded in the control log."


# -- Outside -----------------------------------------------------------------------------------------------------


def test_documents_are_linked_and_match_the_table(control: Victim, folder: Path) -> None:
    runs = [audit_anchor() for _ in range(3)]
    documents = [Document.parse(path.read_bytes()) for path in sorted(folder.iterdir())]
    assert [one.run for one in documents] == [run.run for run in runs]
    assert [one.previous and one.previous[0] for one in documents] == [
        None,
        *(run.document["name"] for run in runs[:2] if run.document),
    ]
    for one in documents:
        rows = AuditAnchor.objects.filter(run=one.run)
        assert anchors_digest(map(Anchor.of_row, rows)) == anchors_digest(one.anchors)
    report = control.report()
    assert (report.documents, report.problems) == (3, [])


def test_the_documents_show_a_recomputed_control_log_with_matching_anchors(
    control: Victim, folder: Path, change_anchors: Callable[[str], None]
) -> None:
    """The control database is consistent, but the documents contradict it."""
    control.append(2)
    audit_anchor()
    control.append(1)
    with control.log.as_superuser() as superuser:
        [(bad,)] = superuser.execute("SELECT max(sequence) - 3 FROM control_audit_logs").fetchall()
    change_anchors("DELETE FROM audit_anchors")
    with control.triggers_off() as superuser:
        superuser.execute(f"UPDATE control_audit_logs SET user_id = 'nobody' WHERE sequence = {bad}")
        superuser.execute("UPDATE control_audit_logs SET action = 'run.start' WHERE action = 'audit.anchor'")
        control.recompute(superuser, 1)
    report = control.report()
    assert kinds(report) == [Kind.RECOMPUTED]
    assert report.documents == 1


def test_without_documents_it_goes_unnoticed(control: Victim, change_anchors: Callable[[str], None]) -> None:
    """This is why AUDIT_ANCHOR_OUTPUT exists: nothing inside a database protects it from its owner."""
    audit_anchor()
    change_anchors("DELETE FROM audit_anchors")
    with control.triggers_off() as superuser:
        superuser.execute("UPDATE control_audit_logs SET action = 'run.start' WHERE action = 'audit.anchor'")
        control.recompute(superuser, 1)
    assert control.report().problems == []


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_removed_document_is_reported(control: Victim, folder: Path, which: int) -> None:
    for _ in range(3):
        audit_anchor()
    victim = sorted(folder.iterdir())[which]
    victim.unlink()
    report = control.report()
    assert set(kinds(report)) == {Kind.DOCUMENT}
    assert any(f"{victim.name}, written at " in one.message for one in report.problems)


def test_a_changed_document_is_reported(control: Victim, folder: Path) -> None:
    for _ in range(2):
        audit_anchor()
    victim = min(folder.iterdir())
    document: dict[str, Any] = json.loads(victim.read_bytes())
    document["anchors"][0]["hash"] = "0" * 64
    victim.write_text(json.dumps(document))
    found = kinds(control.report())
    assert Kind.DOCUMENT in found and Kind.ANCHOR in found


def test_a_run_interrupted_after_its_document_is_not_a_problem(
    control: Victim, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit_anchor()

    def cut_off(**_options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(import_module("audit.verification.anchor"), "record", cut_off)
        with pytest.raises(KeyboardInterrupt):
            audit_anchor()
    audit_anchor()
    report = control.report()
    assert (report.documents, report.problems) == (3, [])


def test_an_unwritable_place_is_reported_and_the_anchors_are_in_the_database(
    control: Victim, folder: Path, settings: Settings
) -> None:
    (folder / "file").touch()
    settings.AUDIT_ANCHOR_OUTPUT = str(folder / "file")
    report = audit_anchor()
    assert len(report.problems) == 1 and "cannot be" in report.problems[0]
    assert AuditAnchor.objects.filter(run=report.run).exists()


def test_a_folder_cannot_lock_documents(control: Victim, folder: Path, settings: Settings) -> None:
    settings.AUDIT_ANCHOR_LOCK_DAYS = 1
    [problem] = audit_anchor().problems
    assert "is a folder; object lock is not available there" in problem and "AUDIT_ANCHOR_LOCK_DAYS" in problem


@pytest.fixture
def locked_bucket(s3_server: S3Server, settings: Settings) -> tuple[Any, str]:
    """A bucket with object lock for the anchors; returns (client, bucket)."""
    settings.AWS_S3_ENDPOINT_URL = s3_server.endpoint
    settings.AWS_S3_REGION_NAME = s3_server.region
    settings.AWS_ACCESS_KEY_ID = s3_server.access_key
    settings.AWS_SECRET_ACCESS_KEY = s3_server.secret_key
    client = boto3.client(
        "s3",
        endpoint_url=s3_server.endpoint,
        region_name=s3_server.region,
        aws_access_key_id=s3_server.access_key,
        aws_secret_access_key=s3_server.secret_key,
    )
    bucket = f"anchors-{uuid4().hex[:8]}"
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    settings.AUDIT_ANCHOR_OUTPUT = f"s3://{bucket}/audit"
    settings.AUDIT_ANCHOR_LOCK_DAYS = 1
    return client, bucket


def test_a_locked_document_cannot_be_removed_or_overwritten(control: Victim, locked_bucket: tuple[Any, str]) -> None:
    client, bucket = locked_bucket
    for _ in range(2):
        audit_anchor()
    [first, second] = client.list_object_versions(Bucket=bucket)["Versions"]
    for version in (first, second):
        with pytest.raises(ClientError, match="AccessDenied"):
            client.delete_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])
    # S3 allows hiding a document by a delete marker, but older versions are still read.
    client.delete_object(Bucket=bucket, Key=first["Key"])
    client.put_object(Bucket=bucket, Key=second["Key"], Body=b"{}")
    report = control.report()
    assert report.documents == 2
    assert [one.message for one in report.problems] == [
        f"{second['Key'].removeprefix('audit/')} is not a valid anchor document."
    ]


def test_the_command_exits_1_if_something_is_wrong(
    control: Victim, capsys: pytest.CaptureFixture[str], change_anchors: Callable[[str], None]
) -> None:
    call_command("audit_anchor")
    call_command("audit_verify", tenant_id=control.tenant.id, json=True)
    [_first, *found] = capsys.readouterr().out.split("\n", 1)
    logs = json.loads("".join(found))["logs"]
    assert [(one["log"], one["problems"]) for one in logs] == [("control", []), ("tenant", [])]
    entry = ControlAuditLog.objects.latest("sequence")
    assert (entry.action, entry.resource_type, entry.resource_id) == ("audit.verify", "tenant", control.tenant.id)
    assert entry.details == {"logs": 2, "problems": 0}
    change_anchors("DELETE FROM audit_anchors")
    with pytest.raises(CommandError, match=r"^control: The anchors recorded at "):
        call_command("audit_verify", tenant_id=control.tenant.id)


def test_all_logs_are_verified(tenant_pair: tuple[Tenant, Tenant]) -> None:
    reports = audit_verify()
    found = {(one.log, one.tenant_id): one.problems for one in reports}
    assert found["control", ""] == []
    assert all(found["tenant", tenant.id] == [] for tenant in tenant_pair)
