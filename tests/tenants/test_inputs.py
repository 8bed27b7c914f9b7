"""Arguments are checked before anything is asked or done; "-" is standard input or output, or is refused."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from audit.control.models import ControlAuditLog
from audit.verification.export import audit_export
from config.stack.paths import CHECKOUT
from runs.models import Run
from tenants.errors import BackupFailed
from tenants.models import Backup, FileRead, Restore, Tenant
from tenants.routing.context import tenant_context
from tenants.transfer.export import tenant_export, tenant_export_stream
from tenants.transfer.import_ import tenant_import
from tests.audit.audited import state
from tests.support.program import PROGRAM, seo_gen, seo_gen_at_terminal, seo_gen_piped
from tests.support.tenant_fixtures import MakeTenant, remove
from tests.tenants.conftest import AgeKey
from tests.tenants.erasure.test_delete import break_log
from tests.tenants.support.backups import back_up
from tests.tenants.support.filled import add_run


@pytest.fixture
def _at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that standard input is a terminal; fail if a question is asked."""

    def asked(prompt: str = "") -> str:
        raise AssertionError(f"asked: {prompt}")

    monkeypatch.setattr("builtins.input", asked)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)


def refused(*words: str) -> str:
    name, *arguments = words
    with pytest.raises(CommandError) as told:
        call_command(name, *arguments, stdout=StringIO(), stderr=StringIO())
    return str(told.value)


ONE_FILE = "“-” is standard output, but a folder or bucket is needed here."
BOTH = "--json and --output - both write to standard output"
# (command, arguments, part of the message), with the placeholders of `world`.
WRONG = [
    ("tenant_restore", "--tenant-id {id} --backup-file /nope/nowhere.dump", "/nope/nowhere.dump does not exist"),
    ("tenant_restore", "--tenant-id {id} --backup-file {folder}", "cannot be read: Is a directory"),
    ("tenant_restore", "--tenant-id {id} --backup-file s3://", "lacks a file name"),
    (
        "tenant_restore",
        "--tenant-id {id} --backup-file {file} --age-identity-file /nope/key",
        "/nope/key cannot be used",
    ),
    (
        "tenant_restore",
        "--tenant-id {id} --backup-file {file} --age-identity-file {text}",
        "is not a valid age identity file",
    ),
    ("tenant_restore", "--tenant-id {id} --backup-file {sealed}", "no age identity was given to decrypt it"),
    ("tenant_restore", "--tenant-id {other} --backup-file {file}", "The backup belongs to tenant {id}"),
    ("tenant_restore", "--tenant-id nobody --backup-file {file}", "There is no tenant 'nobody'"),
    ("tenant_restore", "--tenant-id {id} --to-time yesterday", "'yesterday' is not a valid time"),
    ("tenant_restore", "--tenant-id {id} --to-time 2026-01-01T00:00:00", "has no UTC offset"),
    ("tenant_restore", "--tenant-id {id} --to-time 1999-01-01T00:00:00Z", "base backup"),
    ("tenant_restore", "--tenant-id {id} --undo", "There is no restore to undo: no replaced database is kept"),
    ("tenant_restore", "--tenant-id {id} --as new-{id} --backup-file /nope/nowhere.dump", "does not exist"),
    ("tenant_restore", "--tenant-id {id} --as new-{id} --to-time 1999-01-01T00:00:00Z", "base backup"),
    ("tenant_drill", "--tenant-id {id} --backup-file /nope/nowhere.dump", "/nope/nowhere.dump does not exist"),
    ("tenant_drill", "--tenant-id {id} --backup-file {file} --age-identity-file /nope/key", "/nope/key cannot be used"),
    ("tenant_drill", "--tenant-id {id} --to-time soon", "'soon' is not a valid time"),
    ("tenant_import", "--file /nope/nowhere.bundle --id new-{id}", "/nope/nowhere.bundle does not exist"),
    ("tenant_import", "--file {bundle} --id new-{id} --server nowhere", "There is no database server 'nowhere'"),
    ("tenant_import", "--file {bundle} --id Wrong_Id", "Wrong_Id"),
    ("tenant_import", "--file {bundle} --id new-{id} --age-identity-file /nope/key", "/nope/key cannot be used"),
    ("backup_verify", "--file {file} --age-identity-file /nope/key", "/nope/key cannot be used"),
    ("backup_verify", "--all --age-identity-file /nope/key", "/nope/key cannot be used"),
    ("tenant_backup", "--tenant-id {id} --output {folder}/x --encrypt-to age1nonsense", "is not a valid age recipient"),
    ("tenant_backup", "--all --output s3://", "lacks a bucket"),
    ("tenant_export", "--tenant-id {id} --output {file}", "already exists"),
    ("tenant_export", "--tenant-id {id} --output {folder}/x --encrypt-to age1nonsense", "is not a valid age recipient"),
    ("tenant_create", "--name x --id new-{id} --server nowhere", "There is no database server 'nowhere'"),
    ("tenant_delete", "--tenant-id nobody", "There is no tenant 'nobody'"),
    ("cluster_backup", "--server nowhere", "There is no database server 'nowhere'"),
    ("cluster_receive_wal", "--server nowhere", "There is no database server 'nowhere'"),
    ("cluster_verify", "--server nowhere", "There is no database server 'nowhere'"),
    # Standard output takes one file, and then contains nothing else.
    ("tenant_backup", "--tenant-id {id} --output - --with-storage", ONE_FILE),
    ("tenant_backup", "--all --output -", ONE_FILE),
    ("cluster_backup", "--output -", ONE_FILE),
    ("cluster_receive_wal", "--server main --output -", ONE_FILE),
    ("tenant_export", "--tenant-id {id} --output - --json", BOTH),
    ("tenant_backup", "--tenant-id {id} --output - --json", BOTH),
    ("audit_export", "--tenant-id {id} --output - --json", BOTH),
    ("tenant_export", "--tenant-id {id} --output - --encrypt-to age1nonsense", "is not a valid age recipient"),
    # Paths that are not folders, and buckets that do not exist.
    ("tenant_backup", "--tenant-id {id} --output {text}", "{text} cannot be written: Not a directory."),
    ("tenant_backup", "--all --output {text}/below", "{text}/below cannot be written: Not a directory."),
    ("tenant_backup", "--all --output s3://nowhere/x", "The bucket s3://nowhere does not exist."),
    ("tenant_export", "--tenant-id {id} --output {text}/x", "{text}/x cannot be written: Not a directory."),
    ("tenant_export", "--tenant-id {id} --output s3://nowhere/x", "The bucket s3://nowhere does not exist."),
    ("audit_export", "--control --output {text}/x", "{text}/x cannot be written: Not a directory."),
    ("cluster_backup", "--output {text}", "{text} cannot be written: Not a directory."),
    # An age identity is not needed for a point in time, but if one is named, it must exist.
    (
        "tenant_restore",
        "--tenant-id {id} --to-time 1999-01-01T00:00:00Z --age-identity-file /nope/key",
        "/nope/key cannot",
    ),
    (
        "tenant_drill",
        "--tenant-id {id} --to-time 1999-01-01T00:00:00Z --age-identity-file /nope/key",
        "/nope/key cannot",
    ),
    ("tenant_recover", "--age-identity-file /nope/key", "/nope/key cannot be used: No such file or directory."),
    ("backup_verify", "--file /nope/nowhere.dump", "/nope/nowhere.dump does not exist."),
    ("run_create", "--tenant-id {id} --config @/nope/config.json", "/nope/config.json cannot be read: No such file"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Create two tenants, and backups and a bundle of the first one; return ids and paths by placeholder.

    No refusal changes them, so the tests share them.
    """
    import pyrage

    from tenants.lifecycle.create import tenant_create

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
    assert "The audit log is broken at entry 1" in refused("tenant_delete", "--tenant-id", tenant.id)


def test_checking_reads_nothing_that_has_to_be_recorded(tenant: Tenant, tmp_path: Path) -> None:
    file = back_up(tenant, tmp_path)
    result = seo_gen_at_terminal("tenant", "restore", "--tenant-id", tenant.id, "--backup-file", file, typed="no")
    assert result.returncode == 1 and "Nothing was done." in result.screen
    assert not FileRead.objects.filter(identity=tenant.identity).exists()
    assert not Restore.objects.filter(tenant_id=tenant.id).exists()


def test_an_identity_of_the_settings_is_enough(tenant: Tenant, tmp_path: Path, age_key: AgeKey) -> None:
    file = back_up(tenant, tmp_path, recipient=age_key.recipient)
    words = ("tenant", "restore", "--tenant-id", tenant.id, "--backup-file", file, "--confirm")
    result = seo_gen(*words, BACKUP_AGE_IDENTITY_FILE=age_key.age_identity_file)
    assert result.returncode == 0, result.stderr


def test_an_audit_log_goes_to_standard_output(tenant: Tenant, tmp_path: Path) -> None:
    add_run(tenant, text="記事")
    result = seo_gen_piped("audit", "export", "--tenant-id", tenant.id, "--output", "-")
    assert result.returncode == 0, result.stderr
    exported = audit_export(tenant_id=tenant.id, output=str(tmp_path / "log"))
    assert result.stdout == (tmp_path / "log").read_bytes()
    assert b"audit log entries to standard output." in result.stderr
    assert exported.head.encode() in result.stderr
    assert not (CHECKOUT / "-").exists()
    details = ControlAuditLog.objects.filter(action="audit.export", resource_id=tenant.id).order_by("id").first()
    assert details is not None and details.details is not None
    assert (details.details["file"], details.details["sha256"]) == ("-", hashlib.sha256(result.stdout).hexdigest())


def test_a_bundle_goes_to_standard_output(make_tenant: MakeTenant, tmp_path: Path) -> None:
    tenant = make_tenant()
    run_id = add_run(tenant, text="記事")
    result = seo_gen_piped("tenant", "export", "--tenant-id", tenant.id, "--output", "-")
    assert result.returncode == 0, result.stderr
    assert f"Tenant {tenant.id} was exported to standard output".encode() in result.stderr
    bundle = tmp_path / "x.bundle"
    bundle.write_bytes(result.stdout)
    new_id = f"{tenant.id}-b"
    assert tenant_import(file=str(bundle), new_id=new_id).missing_files == []
    copy = Tenant.objects.get(pk=new_id)
    with tenant_context(copy) as alias:
        assert Run.objects.using(alias).filter(pk=run_id).exists()
    remove(copy)
    assert not Backup.objects.filter(tenant_id=tenant.id).exists()
    assert_recorded(tenant, "export", result.stdout)


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_dump_goes_from_pipe_to_pipe(tenant: Tenant, age_key: AgeKey, encrypted: bool) -> None:
    run_id = add_run(tenant)
    options = ("--encrypt-to", age_key.recipient) if encrypted else ("--format", "plain")
    dumped = seo_gen_piped("tenant", "backup", "--tenant-id", tenant.id, "--output", "-", *options)
    assert dumped.returncode == 0, dumped.stderr
    assert f"The database of tenant {tenant.id} was dumped to standard output".encode() in dumped.stderr
    assert_recorded(tenant, "backup", dumped.stdout)
    add_run(tenant)
    words = ("tenant", "restore", "--tenant-id", tenant.id, "--backup-file", "-")
    identity = ("--age-identity-file", age_key.age_identity_file) if encrypted else ()
    restored = seo_gen_piped(*words, *identity, given=dumped.stdout)
    assert restored.returncode == 0, restored.stderr
    tenant.refresh_from_db()
    with tenant_context(tenant) as alias:
        assert [run.pk for run in Run.objects.using(alias).all()] == [run_id]


def assert_recorded(tenant: Tenant, kind: str, written: bytes) -> None:
    """Check that the control log has entries of the start and the end, and that the stream's digest is recorded."""
    digest = hashlib.sha256(written).hexdigest()
    entries = ControlAuditLog.objects.filter(resource_id=tenant.id, action__startswith=f"tenant.{kind}").order_by("id")
    assert [entry.action for entry in entries] == [f"tenant.{kind}", f"tenant.{kind}.complete"]
    assert entries[1].details is not None and entries[1].details["sha256"] == digest
    [row] = FileRead.objects.filter(identity=tenant.identity, purpose=kind)
    assert (row.is_stream, row.sha256, row.size_bytes) == (True, digest, len(written))


def test_an_erasure_names_what_went_to_standard_output(tenant: Tenant) -> None:
    bundle = seo_gen_piped("tenant", "export", "--tenant-id", tenant.id, "--output", "-").stdout
    deleted = seo_gen("tenant", "delete", "--tenant-id", tenant.id, "--confirm", "--json")
    assert deleted.returncode == 0, deleted.stderr
    remains = json.loads(deleted.stdout)["certificate"]["remains"]
    [streamed] = remains["streamed"]["files"]
    assert streamed["sha256"] == hashlib.sha256(bundle).hexdigest() and remains["files"] is None
    shown = seo_gen("erasure", "show", "--tenant-id", tenant.id).stdout
    assert "Standard output: /dev/stdout (" in shown and "exported at " in shown and streamed["sha256"] in shown
    assert "The product wrote this tenant's data to standard output, on an operator's command." in shown
    verified = seo_gen("erasure", "verify", "--tenant-id", tenant.id)
    assert verified.returncode == 0, verified.stderr


def test_an_export_that_cannot_be_written_on_is_recorded_as_failed(tenant: Tenant) -> None:
    with open("/dev/full", "wb") as full, pytest.raises(BackupFailed, match=r"was not exported. .*No space left"):
        tenant_export_stream(tenant_id=tenant.id, target=full)
    entries = ControlAuditLog.objects.filter(resource_id=tenant.id, action__startswith="tenant.export").order_by("id")
    assert [entry.action for entry in entries] == ["tenant.export", "tenant.export.fail"]
    [row] = FileRead.objects.filter(identity=tenant.identity)
    assert row.sha256 == ""


def test_a_bundle_is_not_for_a_terminal(tenant: Tenant) -> None:
    out = StringIO()
    out.isatty = lambda: True  # type: ignore[method-assign]
    with pytest.raises(CommandError, match="standard output is a terminal"):
        call_command("tenant_export", "--tenant-id", tenant.id, "--output", "-", stdout=out, stderr=StringIO())
    call_command("tenant_backup", "--tenant-id", tenant.id, "--output", "-", "--format", "plain", stdout=out)
    assert "CREATE TABLE public.runs" in out.getvalue()


def test_a_folder_that_may_not_be_written_is_named(tenant: Tenant, tmp_path: Path) -> None:
    """The file system is mounted read-only, so that not even root may write to it."""
    script = 'mount -t tmpfs -o ro tmpfs "$0" && exec "$@"'
    words = [*PROGRAM, "tenant", "backup", "--tenant-id", tenant.id, "--output", f"{tmp_path}/new"]
    command = ["unshare", "--mount", "sh", "-c", script, str(tmp_path), *words]
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this account may not mount")
    result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert f"{tmp_path}/new cannot be written: Read-only file system." in result.stderr
    assert not Backup.objects.filter(tenant_id=tenant.id).exists()


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
    monkeypatch.setattr(sys.modules["audit.verification.export"], "record", fail)
    with pytest.raises(RuntimeError):
        call_command("audit_export", "--tenant-id", tenant.id, "--output", "-", stdout=out, stderr=StringIO())
    assert out.getvalue() == ""


def test_a_file_that_is_called_so_can_be_named(tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert audit_export(tenant_id=tenant.id, output="./-").file == f"{tmp_path}/-"
    assert tenant_export(tenant_id=tenant.id, output=f"{tmp_path}/--").status == "completed"
    Backup.objects.filter(tenant_id=tenant.id).delete()
