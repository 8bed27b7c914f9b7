"""`audit export` writes the unchanged log, all or nothing, and records the export before the file exists."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import psycopg
import pytest
from django.db import transaction

from audit.control.models import AuditArchive, ControlAuditLog
from audit.errors import UnknownAction
from audit.log.actions import ACTIONS
from audit.log.archive import log_archive
from audit.log.file_format import lines_check, parse_line
from audit.verification.export import audit_export
from tenants.errors import TenantNotActive, UnknownTenant
from tenants.files.locations import PlaceError, place_at
from tenants.lifecycle.suspend import tenant_suspend
from tenants.models import OperationStatus, Tenant, TenantOperation, TenantStatus
from tenants.routing.owner_connection import owner_connection
from tenants.schema.inspection import database_of
from tenants.transfer.clone import tenant_clone
from tests.audit.archives import forget
from tests.audit.conftest import Log, control_log, tenant_log
from tests.support.program import seo_gen
from tests.tenants.conftest import s3_place as s3_place
from tests.tenants.support.filled import add_run

__all__ = ["control_log", "tenant_log"]


@pytest.fixture
def filled(tenant: Tenant) -> Tenant:
    add_run(tenant)
    add_run(tenant, text='"quote\\" \u2028 é 記事')
    return tenant


@pytest.fixture
def erased(filled: Tenant, control_log: Log) -> Iterator[AuditArchive]:
    """The archived log of an erased tenant."""
    assert filled.server is not None
    with owner_connection(filled.server, database_of(filled), "test") as source, transaction.atomic(using="default"):
        archive = log_archive(
            source,
            tenant_id=filled.id,
            identity=filled.identity,
            chain_identity=filled.chain_identity or filled.identity,
        )
    Tenant.objects.filter(pk=filled.pk).update(status=TenantStatus.DELETED, is_active=False)
    yield archive
    forget(control_log, filled.identity)


def recorded(tenant_id: str) -> list[ControlAuditLog]:
    return list(ControlAuditLog.objects.filter(action="audit.export", resource_id=tenant_id).order_by("id"))


def test_the_command_writes_the_log_and_shows_its_end(filled: Tenant, tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    result = seo_gen("audit", "export", "--tenant-id", filled.id, "--output", str(file), "--json")
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    content = file.read_bytes()
    lines = content.splitlines(keepends=True)
    first_bad, head = lines_check(lines, filled.identity)
    assert first_bad is None and head.sequence == len(lines) >= 2
    assert document == {
        "tenant_id": filled.id,
        "file": str(file),
        "source": "database",
        "chain_identity": str(filled.identity),
        "entries": len(lines),
        "head": head.hash,
        "sha256": hashlib.sha256(content).hexdigest(),
        "first_bad": None,
    }
    [entry] = recorded(filled.id)
    assert entry.user_id.startswith("operator:") and entry.resource_type == "tenant"
    assert entry.details == {
        "place": str(tmp_path),
        "file": "log.jsonl",
        "source": "database",
        "entries": len(lines),
        "head": head.hash,
        "sha256": document["sha256"],
    }
    assert file.stat().st_mode & 0o777 == 0o600
    shown = seo_gen("audit", "export", "--tenant-id", filled.id, "--output", str(tmp_path / "again.jsonl"))
    assert f"Wrote {len(lines)} audit log entries to " in shown.stdout and head.hash in shown.stdout
    assert (tmp_path / "again.jsonl").read_bytes() == content, "exporting leaves no trace in the tenant's own log"


def test_a_suspended_tenants_log_can_be_exported(filled: Tenant, tmp_path: Path) -> None:
    tenant_suspend(tenant_id=filled.id)
    assert audit_export(tenant_id=filled.id, output=str(tmp_path / "log")).entries >= 2


def test_the_control_log_is_exported_up_to_its_own_entry(tenant: Tenant, tmp_path: Path) -> None:
    result = seo_gen("audit", "export", "--control", "--output", str(tmp_path / "control"), "--json")
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    lines = (tmp_path / "control").read_bytes().splitlines()
    assert document["entries"] == len(lines) and document["first_bad"] is None
    assert (document["tenant_id"], document["chain_identity"]) == (None, "control_audit_logs")
    last = json.loads(lines[-1])
    [entry] = recorded("control_audit_logs")[-1:]
    assert (entry.previous_hash, entry.details and entry.details["head"]) == (last["entry_hash"], last["entry_hash"])


def test_an_erased_tenants_log_has_the_digest_recorded_in_the_archive(erased: AuditArchive, tmp_path: Path) -> None:
    exported = audit_export(tenant_id=erased.tenant_id, output=str(tmp_path / "log"))
    assert (exported.source, exported.entries, exported.head) == ("archive", erased.entries, erased.head_hash)
    assert hashlib.sha256((tmp_path / "log").read_bytes()).hexdigest() == exported.sha256 == erased.digest


def test_a_copys_log_starts_with_the_identity_of_its_original(
    filled: Tenant, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    from tenants.backup.backup import tenant_backup
    from tests.support.tenant_fixtures import remove

    [outcome] = tenant_backup(tenant_id=filled.id, output=str(tmp_path))
    assert outcome.backup is not None
    new_id = f"copy-{filled.id}"[:40]
    tenant_clone(tenant_id=filled.id, new_id=new_id, backup_file=f"{tmp_path}/{outcome.backup.name}")
    copy = Tenant.objects.get(pk=new_id)
    request.addfinalizer(lambda: remove(copy))
    exported = audit_export(tenant_id=new_id, output=str(tmp_path / "log"))
    assert exported.chain_identity == str(filled.identity) != str(copy.identity)
    assert exported.first_bad is None


def test_a_broken_log_is_exported_unchanged(filled: Tenant, tenant_log: Log, tmp_path: Path) -> None:
    with tenant_log.as_superuser() as superuser:
        superuser.execute("ALTER TABLE audit_logs DISABLE TRIGGER ALL")
        superuser.execute("DELETE FROM audit_logs WHERE sequence = 2")
    result = seo_gen("audit", "export", "--tenant-id", filled.id, "--output", str(tmp_path / "log"))
    assert result.returncode == 0 and "The chain is broken at entry 2" in result.stderr
    assert (tmp_path / "log").exists()


def test_an_export_to_s3_does_not_overwrite(filled: Tenant, s3_place: str) -> None:
    file = f"{s3_place}/{filled.id}.jsonl"
    exported = audit_export(tenant_id=filled.id, output=file)
    content = place_at(s3_place).read(f"{filled.id}.jsonl")
    assert (exported.file, hashlib.sha256(content).hexdigest()) == (file, exported.sha256)
    with pytest.raises(PlaceError, match=r"already exists\. Choose another name\."):
        audit_export(tenant_id=filled.id, output=file)
    assert place_at(s3_place).read(f"{filled.id}.jsonl") == content


def test_an_existing_file_is_not_overwritten(filled: Tenant, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("mine")
    result = seo_gen("audit", "export", "--tenant-id", filled.id, "--output", str(tmp_path / "log"))
    assert result.returncode == 1 and "already exists" in result.stderr
    assert (tmp_path / "log").read_text() == "mine"
    assert recorded(filled.id) == []


def test_a_file_that_appears_during_the_export_is_not_overwritten(filled: Tenant, tmp_path: Path) -> None:
    def write_and_read(line: bytes) -> tuple[list[str | None], str]:
        (tmp_path / "log").write_text("mine")
        return parse_line(line)

    with patch("audit.log.archive.parse_line", write_and_read), pytest.raises(PlaceError, match="already exists"):
        audit_export(tenant_id=filled.id, output=str(tmp_path / "log"))
    assert os.listdir(tmp_path) == ["log"] and (tmp_path / "log").read_text() == "mine"


def test_nothing_is_exported_if_it_cannot_be_recorded(filled: Tenant, tmp_path: Path) -> None:
    with patch("audit.log.entries.ACTIONS", ACTIONS - {"audit.export"}), pytest.raises(UnknownAction):
        audit_export(tenant_id=filled.id, output=str(tmp_path / "log"))
    assert os.listdir(tmp_path) == []


def test_a_failed_export_leaves_nothing(filled: Tenant, tmp_path: Path, s3_place: str) -> None:
    with patch("audit.log.archive.parse_line", side_effect=RuntimeError), pytest.raises(RuntimeError):
        audit_export(tenant_id=filled.id, output=str(tmp_path / "log"))
    with patch("audit.log.archive.parse_line", side_effect=RuntimeError), pytest.raises(RuntimeError):
        audit_export(tenant_id=filled.id, output=f"{s3_place}/failed-{filled.id}")
    assert os.listdir(tmp_path) == []
    assert list(place_at(s3_place).names(f"failed-{filled.id}")) == []
    assert recorded(filled.id) == []


@pytest.mark.parametrize("status", [TenantStatus.PROVISIONING, TenantStatus.RESTORING, TenantStatus.DELETED])
def test_a_tenant_that_has_no_log_to_read_is_refused_in_one_sentence(
    tenant: Tenant, tmp_path: Path, status: TenantStatus
) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(status=status)
    with pytest.raises(TenantNotActive, match=rf"^The status of tenant {tenant.id} is {status.value}\."):
        audit_export(tenant_id=tenant.id, output=str(tmp_path / "log"))
    assert os.listdir(tmp_path) == []


def test_unknown_unreachable_and_unfinished_tenants_are_refused(tenant: Tenant, tmp_path: Path) -> None:
    with pytest.raises(UnknownTenant):
        audit_export(tenant_id="nobody", output=str(tmp_path / "log"))
    operation = TenantOperation.objects.create(
        tenant_id=tenant.id, kind="restore", user_id="x", status=OperationStatus.RUNNING
    )
    result = seo_gen("audit", "export", "--tenant-id", tenant.id, "--output", str(tmp_path / "log"))
    operation.delete()
    assert result.returncode == 1 and "has not finished" in result.stderr
    Tenant.objects.filter(pk=tenant.pk).update(database_url="postgresql://u:secret@127.0.0.1:9/d")
    result = seo_gen("audit", "export", "--tenant-id", tenant.id, "--output", str(tmp_path / "log"))
    Tenant.objects.filter(pk=tenant.pk).update(database_url=tenant.database_url)
    assert result.returncode == 1 and "cannot be used" in result.stderr and "secret" not in result.stderr
    assert os.listdir(tmp_path) == []


def test_entries_added_meanwhile_are_left_out(filled: Tenant, tenant_log: Log, tmp_path: Path) -> None:
    """The file is a snapshot: entries committed while it is written are not in it."""
    added = 0

    def append_and_read(line: bytes) -> tuple[list[str | None], str]:
        nonlocal added
        with psycopg.connect(tenant_log.app_url) as writer:
            writer.execute(tenant_log.insert)
        added += 1
        return parse_line(line)

    with patch("audit.log.archive.parse_line", append_and_read):
        exported = audit_export(tenant_id=filled.id, output=str(tmp_path / "log"))
    assert added == exported.entries and exported.first_bad is None
    assert audit_export(tenant_id=filled.id, output=str(tmp_path / "later")).entries == exported.entries + added
