"""Backups are made, catalogued, verified and pruned."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import socket
import socketserver
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from pytest_django import Settings

from audit.control.models import ControlAuditLog
from config.stack.paths import CHECKOUT
from tenants.backup.backup import tenant_backup
from tenants.errors import BackupFailed, RestoreRefused, TenantNotActive
from tenants.files import tenant_storage
from tenants.files.age_encryption import SealError, recipient_for
from tenants.files.locations import (
    S3_SCHEME,
    AlreadyInPlace,
    MissingFromPlace,
    PlaceError,
    place_at,
    s3_client,
    split_file,
)
from tenants.files.s3_deletion import uploads
from tenants.models import Backup, BackupStatus, Restore, Tenant, TenantStatus
from tenants.restore.orphans import tenant_orphans
from tenants.restore.restore import tenant_restore
from tenants.restore.verify_backup import backup_verify, backups_verify
from tenants.retention.prune import backup_prune
from tenants.transfer.export import tenant_export
from tests.support import preloaded
from tests.support.program import PROGRAM, seo_gen, seo_gen_at_terminal
from tests.support.tenant_fixtures import MakeTenant
from tests.tenants.conftest import AgeKey
from tests.tenants.support.backups import back_up
from tests.tenants.support.filled import add_run, everything_of


def test_manifest_describes_the_expected_result(tenant: Tenant, tmp_path: Path) -> None:
    run = add_run(tenant)
    file = Path(back_up(tenant, tmp_path / "new" / "folder", with_storage=True))
    manifest = json.loads(Path(f"{file}.json").read_text())
    assert (manifest["tenant_id"], manifest["identity"]) == (tenant.id, str(tenant.identity))
    assert manifest["rows"]["runs"] == 1 and manifest["audit"]["sequence"] == 2
    assert manifest["server_version"] == 18 and manifest["tools"].startswith("pg_dump (PostgreSQL) 18")
    assert manifest["schema_version"] == tenant.schema_version and manifest["drift"] == []
    assert {one["path"] for one in manifest["artifacts"]} == {
        f"storage/{tenant.id}/{run}/draft/output.json",
        f"storage/{tenant.id}/{run}/draft/artifacts/draft.md",
    }
    with tarfile.open(file.with_suffix(".storage.tar")) as archive:
        assert sorted(archive.getnames()) == [f"{run}/draft/artifacts/draft.md", f"{run}/draft/output.json"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()} == {0o600}


def test_it_is_catalogued_and_audited(tenant: Tenant, tmp_path: Path) -> None:
    file = back_up(tenant, tmp_path)
    backup = Backup.objects.get(tenant_id=tenant.id)
    assert f"{backup.place}/{backup.name}" == file
    assert (backup.status, backup.identity, backup.size_bytes) == (
        "completed",
        tenant.identity,
        Path(file).stat().st_size,
    )
    assert backup.manifest is not None and "artifacts" not in backup.manifest
    entries = ControlAuditLog.objects.filter(resource_id=tenant.id, action__startswith="tenant.backup").order_by("id")
    assert [entry.action for entry in entries] == ["tenant.backup", "tenant.backup.complete"]
    assert entries[1].details is not None and entries[1].details["sha256"] == backup.manifest["file"]["sha256"]


def test_a_backup_is_of_one_moment(tenant: Tenant, tmp_path: Path) -> None:
    """Rows committed while the backup is made are neither in its dump nor in its manifest's counts."""
    add_run(tenant)

    def interfere(progress: object) -> None:
        if getattr(progress, "step", "") in ("dump", "account"):
            add_run(tenant)

    [outcome] = tenant_backup(tenant_id=tenant.id, output=str(tmp_path), on_progress=interfere)
    assert outcome.backup is not None and outcome.backup.manifest is not None
    assert outcome.backup.manifest["rows"]["runs"] == 1
    [verification] = backups_verify(file=f"{tmp_path}/{outcome.backup.name}")
    assert verification.problem == ""


@pytest.mark.usefixtures("empty_fleet")
def test_all_continues_after_a_failed_tenant_and_names_it(make_tenant: MakeTenant, tmp_path: Path) -> None:
    tenants = [make_tenant() for _ in range(3)]
    ill = tenants[1]
    Tenant.objects.filter(pk=ill.pk).update(database_url="postgresql://u:secret@127.0.0.1:9/nowhere")
    result = seo_gen("tenant", "backup", "--all", "--output", str(tmp_path))
    Tenant.objects.filter(pk=ill.pk).update(database_url=ill.database_url)
    assert result.returncode == 1 and "secret" not in result.stderr
    assert f"Tenant {ill.id} was not backed up. " in result.stderr and f"Not backed up: {ill.id}." in result.stderr
    assert all(tenant.id in result.stdout for tenant in tenants if tenant is not ill)
    assert len(list(tmp_path.glob("*.dump"))) == 2 == len(list(tmp_path.glob("*.json")))
    assert Backup.objects.get(tenant_id=ill.id).status == BackupStatus.FAILED


@pytest.mark.usefixtures("empty_fleet")
def test_beat_has_everybody_backed_up_once_a_day(make_tenant: MakeTenant, tmp_path: Path, settings: Settings) -> None:
    from tenants.tasks import daily

    settings.BACKUP_DAILY_OUTPUT = str(tmp_path)
    tenants = [make_tenant() for _ in range(2)]
    assert daily.name == "tenants.backup_daily"
    daily()
    made = Backup.objects.filter(tenant_id__in=[tenant.id for tenant in tenants], status=BackupStatus.COMPLETED)
    assert {backup.user_id for backup in made} == {"worker:backup"} and made.count() == 2
    assert len(list(tmp_path.glob("*.storage.tar"))) == 2
    # Asked again, by a message that was repeated or that anyone sent.
    daily()
    assert made.all().count() == 2


@pytest.mark.usefixtures("empty_fleet")
def test_daily_backup_is_skipped_without_an_output(tenant: Tenant, settings: Settings) -> None:
    from tenants.tasks import daily

    settings.BACKUP_DAILY_OUTPUT = ""
    daily()
    assert not Backup.objects.filter(tenant_id=tenant.id).exists()


def test_an_export_that_is_being_written_is_left_alone(tenant: Tenant, tmp_path: Path) -> None:
    Backup.objects.create(
        tenant_id=tenant.id, identity=tenant.identity, kind="export", place=str(tmp_path), name="x", format="bundle"
    )
    with pytest.raises(PlaceError, match=f"An export to {tmp_path}/x has not finished"):
        tenant_export(tenant_id=tenant.id, output=str(tmp_path / "x"))
    Backup.objects.filter(place=str(tmp_path)).delete()


def test_the_record_of_an_export_that_is_gone_is_marked_as_removed(tenant: Tenant, tmp_path: Path) -> None:
    first = tenant_export(tenant_id=tenant.id, output=str(tmp_path / "x"))
    (tmp_path / "x").unlink()
    tenant_export(tenant_id=tenant.id, output=str(tmp_path / "x"))
    first.refresh_from_db()
    assert first.status == "removed" and first.removed_at is not None


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("s3://", "s3:// lacks a bucket"),
        ("{file}/inside", "cannot be written: Not a directory|File exists"),
    ],
    ids=["no bucket", "a file"],
)
@pytest.mark.usefixtures("s3_place")
def test_a_place_that_cannot_be_written_is_named(tenant: Tenant, tmp_path: Path, output: str, reason: str) -> None:
    file = tmp_path / "file"
    file.touch()
    try:
        [outcome] = tenant_backup(tenant_id=tenant.id, output=output.replace("{file}", str(file)))
    except PlaceError as refusal:
        problem = str(refusal)
    else:
        problem = outcome.problem
    assert re.search(reason, problem), problem


def test_s3_that_is_down_is_named_and_holds_no_secret(tenant: Tenant, settings: Settings) -> None:
    settings.AWS_S3_ENDPOINT_URL = "http://127.0.0.1:9"
    settings.AWS_ACCESS_KEY_ID, settings.AWS_SECRET_ACCESS_KEY = "key", "very-secret"
    [outcome] = tenant_backup(tenant_id=tenant.id, output="s3://bucket/prefix")
    assert "s3://bucket/prefix" in outcome.problem and "EndpointConnectionError" in outcome.problem
    assert "very-secret" not in outcome.problem


def test_interrupted_s3_stream_is_retried_then_reported(tenant: Tenant, s3_place: str, settings: Settings) -> None:
    add_run(tenant, text="x" * 200_000)
    file = back_up(tenant, s3_place)
    live = everything_of(tenant)
    whole = settings.AWS_S3_ENDPOINT_URL
    with cutting_proxy(whole, after_bytes=30) as url:
        settings.AWS_S3_ENDPOINT_URL = url
        with pytest.raises(RestoreRefused, match="cannot be read"):
            tenant_restore(tenant_id=tenant.id, backup_file=file)
        [outcome] = tenant_backup(tenant_id=tenant.id, output=s3_place)
        assert f"Tenant {tenant.id} was not backed up" in outcome.problem and "cannot be written" in outcome.problem
    assert everything_of(tenant) == live
    # It continues where it was interrupted.
    with cutting_proxy(whole, after_bytes=20_000) as url:
        settings.AWS_S3_ENDPOINT_URL = url
        assert tenant_restore(tenant_id=tenant.id, backup_file=file).missing_files == []
    settings.AWS_S3_ENDPOINT_URL = whole


@contextmanager
def cutting_proxy(target: str, after_bytes: int) -> Iterator[str]:
    """Forward connections to `target`, and close each of them once it has returned that many bytes; yield the proxy's
    URL.
    """
    host, port = target.removeprefix("http://").split(":")

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((host, int(port))) as server, suppress(OSError):
                threading.Thread(target=pump, args=(self.request, server, 10**9), daemon=True).start()
                pump(server, self.request, after_bytes)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as proxy:
        proxy.daemon_threads = True
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{proxy.server_address[1]}"
        proxy.shutdown()


def pump(source: socket.socket, target: socket.socket, limit: int) -> None:
    """Copy at most `limit` bytes, then close both sides."""
    with suppress(OSError):
        while limit > 0 and (data := source.recv(min(limit, 65536))):
            target.sendall(data)
            limit -= len(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def test_a_full_disk_leaves_nothing(tenant: Tenant, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the full disk: the kernel refuses to let the file grow."""
    program = (
        "import django, resource, signal, sys; django.setup()\n"
        "from tenants.backup.backup import tenant_backup\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "print(tenant_backup(tenant_id=sys.argv[1], output=sys.argv[2])[0].problem)\n"
    )
    command = [sys.executable, "-c", program, tenant.id, str(tmp_path)]
    result = preloaded.run(command, cwd=CHECKOUT, env=dict(os.environ), capture_output=True, text=True, check=True)
    assert f"Tenant {tenant.id} was not backed up. {tmp_path}/{tenant.id}" in result.stdout
    assert "cannot be written: File too large." in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("empty_fleet")
def test_full_disk_is_reported_for_each_tenant(make_tenant: MakeTenant, tmp_path: Path) -> None:
    """The file system, in a separate mount namespace, has room for the two small backups, but not for the large one."""
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this account may not mount")
    large, *small = (make_tenant(tenant_id=f"{name}-{secrets.token_hex(4)}") for name in "abc")
    add_run(large, text=secrets.token_hex(200_000))
    script = 'mount -t tmpfs -o size=192k tmpfs "$0" && "$@"; status=$?; ls -A "$0"; exit $status'
    words = [*PROGRAM, "tenant", "backup", "--all", "--workers", "1", "--output", str(tmp_path)]
    command = ["unshare", "--mount", "sh", "-c", script, str(tmp_path), *words]
    result = preloaded.run(command, cwd=CHECKOUT, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert result.returncode == 1
    told = f"Tenant {large.id} was not backed up. {tmp_path}/{large.id}-"
    assert told in result.stderr and "cannot be written: No space left on device." in result.stderr
    assert f"Not backed up: {large.id}." in result.stderr
    # Its own parts are gone, those of the others are whole.
    listed = result.stdout.splitlines()[-4:]
    assert all(any(line.startswith(one.id) for line in listed) for one in small)
    assert not any(line.startswith((large.id, ".")) for line in listed)
    assert [one.status for one in Backup.objects.filter(tenant_id=large.id)] == [BackupStatus.FAILED]
    assert {one.status for one in Backup.objects.filter(tenant_id__in=[one.id for one in small])} == {"completed"}
    Backup.objects.filter(place=str(tmp_path)).delete()


def test_full_temporary_disk_is_reported_for_the_tenant(
    tenant_pair: tuple[Tenant, Tenant], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The temporary files in which an export collects its parts are not in the target location."""
    tenant, _other = tenant_pair

    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(
        BackupFailed,
        match=f"Tenant {tenant.id} was not exported. The disk or a file cannot be used: No space left on device",
    ):
        tenant_export(tenant_id=tenant.id, output=str(tmp_path / "x"))
    assert list(tmp_path.iterdir()) == []


def test_an_unusable_recipient_is_refused_before_anything(tenant: Tenant, tmp_path: Path) -> None:
    with pytest.raises(SealError, match="'age1nonsense' is not a valid age recipient"):
        tenant_backup(tenant_id=tenant.id, output=str(tmp_path), recipient="age1nonsense")
    assert not Backup.objects.filter(tenant_id=tenant.id).exists()


@pytest.mark.parametrize("change", [str, str.lower])
def test_a_private_key_given_as_the_recipient_is_not_shown(age_key: AgeKey, change: Callable[[str], str]) -> None:
    [private] = [line for line in Path(age_key.age_identity_file).read_text().splitlines() if line.startswith("AGE-")]
    with pytest.raises(SealError, match="A private key was given") as refusal:
        recipient_for(change(private))
    assert private[20:30].lower() not in str(refusal.value).lower()


def test_settings_recipient_is_the_default(tenant: Tenant, tmp_path: Path, age_key: AgeKey, settings: Settings) -> None:
    settings.BACKUP_AGE_RECIPIENT = age_key.recipient
    settings.BACKUP_AGE_IDENTITY_FILE = age_key.age_identity_file
    file = back_up(tenant, tmp_path / "b")
    assert file.endswith(".dump.age") and Path(file).read_bytes().startswith(b"age-encryption.org/v1")
    assert backup_verify(file, age_identity_file=None).problem == ""
    assert not back_up(tenant, tmp_path / "b", recipient="").endswith(".age")


def test_a_tenant_that_is_gone_is_not_backed_up(tenant: Tenant, tmp_path: Path) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(status=TenantStatus.DELETED)
    with pytest.raises(TenantNotActive):
        tenant_backup(tenant_id=tenant.id, output=str(tmp_path))
    with pytest.raises(TenantNotActive):
        tenant_export(tenant_id=tenant.id, output=str(tmp_path / "x"))
    Tenant.objects.filter(pk=tenant.pk).update(status=TenantStatus.ACTIVE)


def test_verification_finds_damage_and_missing_files(tenant: Tenant, tmp_path: Path) -> None:
    add_run(tenant)
    file = back_up(tenant, tmp_path)
    assert backup_verify(file, age_identity_file=None).problem == ""
    backup = Backup.objects.get(tenant_id=tenant.id)
    assert backup.verified_at is not None and backup.verify_error == ""
    [output] = [one.path for one in tenant_storage.objects_of(tenant.id) if one.path.endswith("output.json")]
    content = tenant_storage.read(output)
    tenant_storage.remove([output])
    found = backup_verify(file, age_identity_file=None)
    told = "Files that rows refer to are missing or changed in the tenant's storage: 1 of 2 ("
    assert found.problem == f"{told}{output})."
    assert content is not None
    tenant_storage.write_all({output: content})
    with open(file, "r+b") as damaged:
        damaged.seek(-200, os.SEEK_END)
        damaged.write(b"x")
    result = seo_gen("backup", "verify", "--file", file)
    assert result.returncode == 1 and "differs from the manifest's." in result.stdout
    backup.refresh_from_db()
    assert "differs from the manifest's." in backup.verify_error


def test_prune_removes_what_is_old_but_never_the_newest(tenant: Tenant, tmp_path: Path) -> None:
    old, older = back_up(tenant, tmp_path, with_storage=True), back_up(tenant, tmp_path)
    newest = back_up(tenant, tmp_path)
    long_ago = timezone.now() - timedelta(days=400)
    Backup.objects.filter(tenant_id=tenant.id).update(started_at=long_ago)
    Backup.objects.filter(name=Path(newest).name).update(started_at=long_ago + timedelta(days=1))
    planned = [one.what for one in backup_prune(dry_run=True) if one.tenant_id == tenant.id]
    assert sorted(planned) == sorted([old, older]) and Path(old).exists()
    backup_prune()
    assert sorted(path.name for path in tmp_path.iterdir()) == [Path(newest).name, f"{Path(newest).name}.json"]
    statuses = Backup.objects.filter(tenant_id=tenant.id).values_list("status", flat=True)
    assert sorted(statuses) == ["completed", "removed", "removed"]
    assert ControlAuditLog.objects.filter(resource_id=tenant.id, action="backup.remove").count() == 2


def test_prune_drops_expired_replaced_databases(tenant: Tenant, tmp_path: Path) -> None:
    file = back_up(tenant, tmp_path)
    add_run(tenant)
    report = tenant_restore(tenant_id=tenant.id, backup_file=file)
    assert [one for one in backup_prune() if one.tenant_id == tenant.id] == []
    Restore.objects.filter(tenant_id=tenant.id).update(kept_until=timezone.now() - timedelta(seconds=1))
    [pruned] = [one for one in backup_prune() if one.tenant_id == tenant.id]
    assert pruned.kind == "replaced database" and pruned.problem == ""
    assert Restore.objects.get(pk=report.operation_id).kept_until is None
    result = seo_gen("tenant", "restore", "--tenant-id", tenant.id, "--undo", "--confirm")
    assert result.returncode == 1 and "There is no restore to undo: no replaced database is kept" in result.stderr


def test_orphans_are_listed_and_removed_once_unneeded(tenant: Tenant, tmp_path: Path) -> None:
    kept = add_run(tenant)
    file = back_up(tenant, tmp_path)
    lost = add_run(tenant)
    tenant_restore(tenant_id=tenant.id, backup_file=file)
    assert tenant_orphans(tenant_id=tenant.id) == []
    Restore.objects.filter(tenant_id=tenant.id).update(kept_until=timezone.now() - timedelta(seconds=1))
    backup_prune()
    result = seo_gen("tenant", "orphans", "--tenant-id", tenant.id, "--remove")
    assert result.returncode == 1 and "2 files of tenant" in result.stderr and "Pass --confirm" in result.stderr
    result = seo_gen("tenant", "orphans", "--tenant-id", tenant.id, "--remove", "--confirm")
    assert result.returncode == 0 and result.stdout.count(str(lost)) == 2 and "Removed: 2 files." in result.stdout
    assert all(str(kept) in one.path for one in tenant_storage.objects_of(tenant.id))


def test_the_commands_say_what_they_did(tenant: Tenant, tmp_path: Path) -> None:
    add_run(tenant)
    made = seo_gen("tenant", "backup", "--tenant-id", tenant.id, "--output", str(tmp_path), "--json")
    file = json.loads(made.stdout)[0]["backup"]["file"]
    listed = seo_gen("backup", "list", "--tenant-id", tenant.id)
    assert listed.returncode == 0 and file in listed.stdout
    before = everything_of(tenant)
    asked = seo_gen_at_terminal("tenant", "restore", "--tenant-id", tenant.id, "--backup-file", file, typed="")
    assert asked.returncode == 1 and "Nothing was done." in asked.screen
    assert everything_of(tenant) == before
    restored = seo_gen("tenant", "restore", "--tenant-id", tenant.id, "--backup-file", file)
    assert restored.returncode == 0 and f"Tenant {tenant.id} was restored from {file}." in restored.stdout
    assert f"seo-gen tenant restore --tenant-id {tenant.id} --undo" in restored.stdout
    drilled = seo_gen("tenant", "drill", "--tenant-id", tenant.id, "--backup-file", file)
    assert drilled.returncode == 0 and "can be restored from" in drilled.stdout
    undone = seo_gen("tenant", "restore", "--tenant-id", tenant.id, "--undo", "--confirm", "--json")
    assert json.loads(undone.stdout)["kept_until"]


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        ("yesterday", "'yesterday' is not a valid time. Use the form 2026-01-31T12:00:00+09:00."),
        ("2026-11-24T12:00:00", "The time 2026-11-24T12:00:00 has no UTC offset."),
    ],
)
def test_a_time_without_an_offset_is_refused(tenant: Tenant, time: str, reason: str) -> None:
    result = seo_gen("tenant", "restore", "--tenant-id", tenant.id, "--to-time", time, "--confirm")
    assert result.returncode == 1 and reason in result.stderr


def leave_unfinished(url: str, name: str) -> None:
    """Leave behind what a process leaves if it is killed while writing the file."""
    if url.startswith("s3://"):
        bucket, _slash, prefix = url.removeprefix("s3://").partition("/")
        upload = s3_client().create_multipart_upload(Bucket=bucket, Key=f"{prefix}/{name}")
        part = {"Bucket": bucket, "Key": f"{prefix}/{name}", "UploadId": upload["UploadId"], "PartNumber": 1}
        s3_client().upload_part(**part, Body=b"x" * 100)
    else:
        Path(url, f".{name}.partial").write_bytes(b"x" * 100)


def move(url: str, name: str, new_name: str) -> None:
    """Rename a file without the product's code, as another writer could."""
    if not url.startswith(S3_SCHEME):
        os.rename(Path(url) / name, Path(url) / new_name)
        return
    bucket, _slash, prefix = url.removeprefix(S3_SCHEME).partition("/")
    client, key = s3_client(), f"{prefix}/{name}"
    client.copy_object(Bucket=bucket, Key=f"{prefix}/{new_name}", CopySource={"Bucket": bucket, "Key": key})
    client.delete_object(Bucket=bucket, Key=key)


class TestPlaces:
    @pytest.fixture(params=["folder", "s3"])
    def url(self, request: pytest.FixtureRequest, tmp_path: Path, s3_place: str) -> str:
        return f"{s3_place}/{tmp_path.name}" if request.param == "s3" else str(tmp_path / "place")

    def test_a_file_appears_when_it_is_complete_or_not_at_all(self, url: str) -> None:
        place = place_at(url)
        place.write("a/b.txt", b"content")
        assert place.read("a/b.txt") == b"content" and place.size("a/b.txt") == 7
        assert list(place.names()) == ["a/b.txt"]

        def fail() -> None:
            with place.writing("c.txt") as file:
                file.write(b"x" * 100)
                assert place.size("c.txt") is None
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fail()
        assert place.size("c.txt") is None and list(place.names()) == ["a/b.txt"]
        place.remove("a/b.txt")
        place.remove("a/b.txt")
        with pytest.raises(MissingFromPlace, match=r"a/b\.txt does not exist\."):
            place.read("a/b.txt")

    @pytest.mark.parametrize("content", [b"mine", b""])
    def test_a_file_that_appears_meanwhile_is_not_replaced(self, url: str, content: bytes) -> None:
        place = place_at(url)
        with place.writing("new.txt", replace=False) as file:
            file.write(content)
        with (
            pytest.raises(AlreadyInPlace, match=r"new\.txt already exists\."),
            place.writing("new.txt", replace=False) as file,
        ):
            file.write(b"another")
        assert place.read("new.txt") == content

        def overtaken() -> None:
            with place.writing("other.txt", replace=False) as file:
                file.write(content)
                place_at(url).write("theirs.txt", b"theirs")
                move(url, "theirs.txt", "other.txt")

        with pytest.raises(AlreadyInPlace):
            overtaken()
        assert place.read("other.txt") == b"theirs" and "other.txt" not in place.completed
        assert list(place.names()) == ["new.txt", "other.txt"]
        if url.startswith(S3_SCHEME):
            bucket, _slash, prefix = url.removeprefix(S3_SCHEME).partition("/")
            assert list(uploads(s3_client(), bucket, prefix)) == [], "the parts of the refused upload are kept"
        else:
            assert sorted(os.listdir(url)) == ["new.txt", "other.txt"]

    def test_without_hard_links_it_is_looked_up(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_arguments: object, **_keywords: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
        place = place_at(str(tmp_path))
        for content in (b"first", b"second"):
            with suppress(AlreadyInPlace), place.writing("a", replace=False) as file:
                file.write(content)
        assert place.read("a") == b"first" and os.listdir(tmp_path) == ["a"]

    def test_an_unfinished_file_is_held_until_it_is_removed(self, url: str) -> None:
        place = place_at(url)
        place.write("b.dump", b"another")
        assert not place.holds("a.dump")
        leave_unfinished(url, "a.dump")
        assert place.size("a.dump") is None
        assert place.holds("a.dump") and not place.holds("a")
        place.erase("a.dump")
        assert not place.holds("a.dump")

    def test_a_file_has_one_writer_at_a_time(self, tmp_path: Path) -> None:
        """Otherwise, the first would give the file's final name to what the second has written so far."""
        places = place_at(str(tmp_path)), place_at(str(tmp_path))
        with places[0].writing("a.jsonl", replace=False) as first:
            first.write(b"whole")
            with (
                pytest.raises(PlaceError, match=r"a\.jsonl is being written by another process\."),
                places[1].writing("a.jsonl", replace=False) as second,
            ):
                second.write(b"ha")
        assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl"]
        assert places[1].read("a.jsonl") == b"whole"

    @pytest.mark.parametrize("left", ["a file", "a link to a file", "a link to nothing"])
    def test_what_a_killed_writer_left_behind_is_replaced(self, tmp_path: Path, left: str) -> None:
        other, partial = tmp_path / "other", tmp_path / ".a.jsonl.partial"
        other.write_bytes(b"keep")
        if left == "a file":
            partial.write_bytes(b"ha")
        else:
            partial.symlink_to(other if left == "a link to a file" else tmp_path / "nothing")
        place_at(str(tmp_path)).write("a.jsonl", b"whole")
        assert (tmp_path / "a.jsonl").read_bytes() == b"whole" and other.read_bytes() == b"keep"
        assert sorted(file.name for file in tmp_path.iterdir()) == ["a.jsonl", "other"]

    @pytest.mark.parametrize("url", ["s3://bucket", "s3://", "folder/"])
    def test_a_url_without_a_file_is_refused(self, url: str) -> None:
        with pytest.raises(PlaceError, match=r"lacks a file name|lacks a bucket"):
            split_file(url)
