"""What commands are given is checked before anything is asked or done; "-" is standard output, or is refused."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from audit.control.models import ControlAuditLog
from config.stack.paths import CHECKOUT
from tenants.models import Backup, FileRead, Restore, Tenant
from tenants.services import audit_export, tenant_export
from tests.audit.audited import state
from tests.program import seo_gen, seo_gen_piped
from tests.tenants.backups import back_up
from tests.tenants.conftest import AgeKey
from tests.tenants.filled import add_run
from tests.tenants.test_delete import break_log


@pytest.fixture
def _at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody sits there, and must not be asked."""

    def asked(prompt: str = "") -> str:
        raise AssertionError(f"asked: {prompt}")

    monkeypatch.setattr("builtins.input", asked)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)


def refused(*words: str) -> str:
    """Return why the command was refused."""
    name, *arguments = words
    with pytest.raises(CommandError) as told:
        call_command(name, *arguments, stdout=StringIO(), stderr=StringIO())
    return str(told.value)


# (command, arguments, what is said); {id}, {file} (a backup), {key} (an identity), {folder} and {text} (no identity).
WRONG = [
    ("tenant_restore", "--tenant-id {id} --backup-file /nope/nowhere.dump", "/nope/nowhere.dump does not exist"),
    ("tenant_restore", "--tenant-id {id} --backup-file {folder}", "cannot be read: Is a directory"),
    ("tenant_restore", "--tenant-id {id} --backup-file s3://", "names no file"),
    ("tenant_restore", "--tenant-id {id} --backup-file {file} --identity-file /nope/key", "/nope/key cannot be used"),
    ("tenant_restore", "--tenant-id {id} --backup-file {file} --identity-file {text}", "it holds no age identity"),
    ("tenant_restore", "--tenant-id {id} --backup-file {sealed}", "no identity that could open it was given"),
    ("tenant_restore", "--tenant-id {other} --backup-file {file}", "it is a backup of tenant {id}"),
    ("tenant_restore", "--tenant-id nobody --backup-file {file}", "There is no tenant 'nobody'"),
    ("tenant_restore", "--tenant-id {id} --to-time yesterday", "'yesterday' is not a time"),
    ("tenant_restore", "--tenant-id {id} --to-time 2026-01-01T00:00:00", "has no offset"),
    ("tenant_restore", "--tenant-id {id} --to-time 1999-01-01T00:00:00Z", "base backup"),
    ("tenant_restore", "--tenant-id {id} --undo", "no database that a restore replaced is kept"),
    ("tenant_restore", "--tenant-id {id} --as new-{id} --backup-file /nope/nowhere.dump", "does not exist"),
    ("tenant_restore", "--tenant-id {id} --as new-{id} --to-time 1999-01-01T00:00:00Z", "base backup"),
    ("tenant_drill", "--tenant-id {id} --backup-file /nope/nowhere.dump", "/nope/nowhere.dump does not exist"),
    ("tenant_drill", "--tenant-id {id} --backup-file {file} --identity-file /nope/key", "/nope/key cannot be used"),
    ("tenant_drill", "--tenant-id {id} --to-time soon", "'soon' is not a time"),
    ("tenant_import", "--file /nope/nowhere.bundle --id new-{id}", "/nope/nowhere.bundle does not exist"),
    ("tenant_import", "--file {bundle} --id new-{id} --server nowhere", "There is no database server 'nowhere'"),
    ("tenant_import", "--file {bundle} --id Wrong_Id", "Wrong_Id"),
    ("tenant_import", "--file {bundle} --id new-{id} --identity-file /nope/key", "/nope/key cannot be used"),
    ("backup_verify", "--file {file} --identity-file /nope/key", "/nope/key cannot be used"),
    ("backup_verify", "--all --identity-file /nope/key", "/nope/key cannot be used"),
    ("tenant_backup", "--tenant-id {id} --output {folder}/x --encrypt-to age1nonsense", "is no age recipient"),
    ("tenant_backup", "--all --output s3://", "names no bucket"),
    ("tenant_export", "--tenant-id {id} --output {file}", "exists already"),
    ("tenant_export", "--tenant-id {id} --output {folder}/x --encrypt-to age1nonsense", "is no age recipient"),
    ("tenant_create", "--name x --id new-{id} --server nowhere", "There is no database server 'nowhere'"),
    ("tenant_delete", "--tenant-id nobody", "There is no tenant 'nobody'"),
    ("cluster_backup", "--server nowhere", "There is no database server 'nowhere'"),
    ("cluster_receive_wal", "--server nowhere", "There is no database server 'nowhere'"),
    # Standard output cannot be looked for later, and is no folder.
    ("tenant_export", "--tenant-id {id} --output -", "“-” is standard output, and cannot be used here"),
    ("tenant_backup", "--tenant-id {id} --output -", "“-” is standard output, and cannot be used here"),
    ("tenant_backup", "--all --output -", "“-” is standard output, and cannot be used here"),
    ("cluster_backup", "--output -", "“-” is standard output, and cannot be used here"),
    ("cluster_receive_wal", "--server main --output -", "“-” is standard output, and cannot be used here"),
    ("audit_export", "--tenant-id {id} --output - --json", "--json and --output - both write to standard output"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A tenant with backups and a bundle, which no refusal changes."""
    import pyrage

    from tenants.services import tenant_create

    folder = tmp_path_factory.mktemp("inputs")
    tenant, other = (tenant_create(name=f"inputs {one} {os.getpid()}") for one in "ab")
    (folder / "text").write_text("no identity")
    recipient = str(pyrage.x25519.Identity.generate().to_public())
    tenant_export(tenant_id=tenant.id, output=str(folder / "x.bundle"))
    return {
        "id": tenant.id,
        "other": other.id,
        "folder": str(folder),
        "text": str(folder / "text"),
        "bundle": str(folder / "x.bundle"),
        "file": back_up(tenant, folder),
        "sealed": back_up(tenant, folder, recipient=recipient),
    }


@pytest.mark.parametrize(("command", "arguments", "told"), WRONG)
@pytest.mark.usefixtures("_at_a_terminal", "s3_place")
def test_what_is_wrong_is_said_before_anything_is_asked_or_done(
    world: dict[str, str], command: str, arguments: str, told: str
) -> None:
    tenant, folder = Tenant.objects.get(pk=world["id"]), Path(world["folder"])
    before = state(tenant, folder)
    assert told.format(**world) in refused(command, *arguments.format(**world).split())
    assert state(tenant, folder) == before
    assert not Path("-").exists() and not (CHECKOUT / "-").exists()


@pytest.mark.usefixtures("_at_a_terminal")
def test_a_deletion_that_would_be_refused_is_not_asked_about(tenant: Tenant) -> None:
    add_run(tenant)
    break_log(tenant)
    assert "its audit log is broken at entry 1" in refused("tenant_delete", "--tenant-id", tenant.id)


def test_checking_reads_nothing_that_has_to_be_recorded(tenant: Tenant, tmp_path: Path) -> None:
    file = back_up(tenant, tmp_path)
    result = seo_gen("tenant", "restore", "--tenant-id", tenant.id, "--backup-file", file)
    assert result.returncode == 1 and "Give --confirm" in result.stderr
    assert not FileRead.objects.filter(identity=tenant.identity).exists()
    assert not Restore.objects.filter(tenant_id=tenant.id).exists()


def test_an_identity_of_the_settings_is_enough(tenant: Tenant, tmp_path: Path, age_key: AgeKey) -> None:
    file = back_up(tenant, tmp_path, recipient=age_key.recipient)
    words = ("tenant", "restore", "--tenant-id", tenant.id, "--backup-file", file, "--confirm")
    result = seo_gen(*words, BACKUP_AGE_IDENTITY_FILE=age_key.identity_file)
    assert result.returncode == 0, result.stderr


def test_an_audit_log_goes_to_standard_output(tenant: Tenant, tmp_path: Path) -> None:
    add_run(tenant, text="記事")
    result = seo_gen_piped("audit", "export", "--tenant-id", tenant.id, "--output", "-")
    assert result.returncode == 0, result.stderr
    exported = audit_export(tenant_id=tenant.id, output=str(tmp_path / "log"))
    assert result.stdout == (tmp_path / "log").read_bytes()
    assert b"entries of the audit log were written to standard output." in result.stderr
    assert exported.head.encode() in result.stderr
    assert not (CHECKOUT / "-").exists()
    details = ControlAuditLog.objects.filter(action="audit.export", resource_id=tenant.id).order_by("id").first()
    assert details is not None and details.details is not None
    assert (details.details["file"], details.details["sha256"]) == ("-", hashlib.sha256(result.stdout).hexdigest())


def test_a_stream_of_text_gets_the_log_too(tenant: Tenant, tmp_path: Path) -> None:
    add_run(tenant)
    out, err = StringIO(), StringIO()
    call_command("audit_export", "--tenant-id", tenant.id, "--output", "-", stdout=out, stderr=err)
    assert [json.loads(line)["sequence"] for line in out.getvalue().splitlines()] == ["1", "2"]
    assert "standard output" in err.getvalue()


def test_nobody_has_a_line_of_a_log_whose_export_cannot_be_recorded(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_options: object) -> None:
        raise RuntimeError

    out = StringIO()
    monkeypatch.setattr(sys.modules["tenants.services.audit_export"], "record", fail)
    with pytest.raises(RuntimeError):
        call_command("audit_export", "--tenant-id", tenant.id, "--output", "-", stdout=out, stderr=StringIO())
    assert out.getvalue() == ""


def test_a_file_that_is_called_so_can_be_named(tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert audit_export(tenant_id=tenant.id, output="./-").file == f"{tmp_path}/-"
    assert tenant_export(tenant_id=tenant.id, output=f"{tmp_path}/--").status == "completed"
    Backup.objects.filter(tenant_id=tenant.id).delete()
