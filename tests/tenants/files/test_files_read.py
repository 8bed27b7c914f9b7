"""Files that people gave the product to read: recorded before use, and removed or listed by an erasure."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from audit.log.actor import acting_as
from tenants.erasure.delete import tenant_delete, tenant_loss
from tenants.erasure.presentation import certificate_sections
from tenants.erasure.verify import erasures_verify
from tenants.errors import RestoreRefused, TenantError
from tenants.files.files_read import RESTORE, Reader, reading_begin
from tenants.files.locations import s3_client
from tenants.models import DatabaseServer, Erasure, FileRead, Tenant
from tenants.restore import sources
from tenants.restore.drill import tenant_drill
from tenants.restore.restore import tenant_restore
from tenants.restore.verify_backup import backups_verify
from tenants.transfer.clone import tenant_clone
from tenants.transfer.export import tenant_export
from tenants.transfer.import_ import tenant_import
from tests.support.program import seo_gen_piped
from tests.support.tenant_fixtures import remove_all
from tests.tenants.conftest import AgeKey
from tests.tenants.support.backups import back_up
from tests.tenants.support.filled import add_run

pytestmark = pytest.mark.usefixtures("forgotten")


def sha256(path: Path | str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def brought(file: str, folder: Path, name: str = "brought.dump", *, manifest: bool = True) -> Path:
    """Copy the backup, and its manifest if `manifest`, as someone would by hand; return the copy's path."""
    folder.mkdir(exist_ok=True)
    shutil.copy(file, folder / name)
    if manifest:
        shutil.copy(f"{file}.json", folder / f"{name}.json")
    return folder / name


def named(row: Erasure) -> dict[str, dict[str, Any]]:
    """Return the files that the certificate lists as remaining, by path."""
    assert row.certificate is not None
    remaining = row.certificate["remains"]["files"]
    return {one["file"]: one for one in remaining["files"]} if remaining else {}


def erased(row: Erasure) -> dict[str, str]:
    assert row.certificate is not None
    return {one["file"]: one["sha256"] for one in row.certificate["erased"]["files"]}


def words(row: Erasure) -> str:
    assert row.certificate is not None
    facts = [fact for part in certificate_sections(row.certificate) for fact in part.facts]
    return "\n".join(f"{fact.label}: {fact.text} {' '.join(fact.notes)}" for fact in facts)


def test_what_a_restore_was_given_is_named_by_the_certificate_and_left(tenant: Tenant, tmp_path: Path) -> None:
    file = brought(back_up(tenant, tmp_path / "backups"), tmp_path / "home")
    tenant_restore(tenant_id=tenant.id, backup_file=str(file))
    digests = {str(path): sha256(path) for path in (file, Path(f"{file}.json"))}
    assert [one.file for one in tenant_loss(tenant_id=tenant.id).files] == sorted(digests)
    row = tenant_delete(tenant_id=tenant.id)
    assert {path: one["sha256"] for path, one in named(row).items()} == digests
    assert {one["left"] for one in named(row).values()} == {"there"} and erased(row) == {}
    assert {path: sha256(path) for path in digests} == digests
    assert f"File read for this tenant: {file} read for a restore" in words(row) and digests[str(file)] in words(row)
    [check] = erasures_verify(tenant_id=tenant.id)
    assert check.problems == []
    assert [one for one in check.remaining if "was read for this tenant" in one] == [
        f"{path}, which was read for this tenant, still exists." for path in sorted(digests)
    ]
    file.unlink()
    [check] = erasures_verify(tenant_id=tenant.id)
    assert f"{file}, which was read for this tenant, still exists." not in check.remaining


def test_two_who_read_at_once_are_not_mixed_up(tenant_pair: tuple[Tenant, Tenant], tmp_path: Path) -> None:
    """One reader is interrupted; then the path contains another file, which is read for the other tenant."""
    first, second = tenant_pair
    file = brought(back_up(first, tmp_path / "backups"), tmp_path / "backups")
    given = sources.backup_find(str(file), None).given(with_storage=False)
    with acting_as("operator:ann", operation_id="1"):
        reading_begin(given, purpose=RESTORE, readers=[Reader(first.id, first.identity)])
    brought(back_up(second, tmp_path / "backups"), tmp_path / "backups")
    with acting_as("operator:bob", operation_id="2"):
        tenant_drill(tenant_id=second.id, backup_file=str(file))
    row = tenant_delete(tenant_id=first.id)
    assert erased(row) == {} and file.exists()
    assert set(erased(tenant_delete(tenant_id=second.id))) == {str(file), f"{file}.json"}


def test_in_a_place_of_the_products_it_is_removed(tenant: Tenant, tmp_path: Path) -> None:
    file = brought(back_up(tenant, tmp_path / "backups"), tmp_path / "backups")
    tenant_restore(tenant_id=tenant.id, backup_file=str(file))
    digests = {str(path): sha256(path) for path in (file, Path(f"{file}.json"))}
    content = file.read_bytes()
    row = tenant_delete(tenant_id=tenant.id)
    assert (erased(row), named(row)) == (digests, {})
    assert list((tmp_path / "backups").iterdir()) == []
    assert f"File read for this tenant: {file}" in words(row)
    [check] = erasures_verify(tenant_id=tenant.id)
    assert check.problems == []
    file.write_bytes(content)
    [check] = erasures_verify(tenant_id=tenant.id)
    assert check.problems == [f"{file} exists again after the erasure removed it."]


def test_so_is_a_dump_without_a_manifest_once_it_has_proven_whose_it_is(tenant: Tenant, tmp_path: Path) -> None:
    backup = back_up(tenant, tmp_path / "backups")
    good = brought(backup, tmp_path / "backups", "good.dump", manifest=False)
    bad = tmp_path / "backups" / "bad.dump"
    bad.write_bytes(good.read_bytes()[:-2000])
    tenant_restore(tenant_id=tenant.id, backup_file=str(good))
    with pytest.raises(RestoreRefused):
        tenant_restore(tenant_id=tenant.id, backup_file=str(bad))
    row = tenant_delete(tenant_id=tenant.id)
    assert list(erased(row)) == [str(good)]
    assert {path: one["sha256"] for path, one in named(row).items()} == {str(bad): sha256(bad)}


def test_what_lies_there_by_now_is_left_alone(tenant: Tenant, tmp_path: Path) -> None:
    file = brought(back_up(tenant, tmp_path / "backups"), tmp_path / "backups")
    tenant_restore(tenant_id=tenant.id, backup_file=str(file))
    digest = sha256(file)
    file.write_bytes(b"somebody's own")
    row = tenant_delete(tenant_id=tenant.id)
    assert (named(row)[str(file)]["left"], named(row)[str(file)]["sha256"]) == ("changed", digest)
    assert file.read_bytes() == b"somebody's own"
    assert "Another file was in its place" in words(row)


def test_what_is_not_there_any_more_is_named_by_its_digest(tenant: Tenant, tmp_path: Path) -> None:
    file = brought(back_up(tenant, tmp_path / "backups"), tmp_path / "backups")
    tenant_drill(tenant_id=tenant.id, backup_file=str(file))
    digest = sha256(file)
    file.unlink()
    row = tenant_delete(tenant_id=tenant.id)
    assert (named(row)[str(file)]["left"], named(row)[str(file)]["sha256"]) == ("gone", digest)
    assert "read for a drill" in words(row)


def test_a_file_that_another_tenant_was_made_of_is_known_to_both(tenant: Tenant, tmp_path: Path) -> None:
    add_run(tenant)
    backup = back_up(tenant, tmp_path / "backups", with_storage=True)
    copy = brought(back_up(tenant, tmp_path / "backups"), tmp_path / "home")
    new_id = f"copy-{tenant.id}"[:41]
    tenant_clone(tenant_id=tenant.id, new_id=new_id, backup_file=backup)
    tenant_clone(tenant_id=tenant.id, new_id=f"{new_id}2"[-41:], backup_file=str(copy))
    row = tenant_delete(tenant_id=new_id)
    # It is in the catalogue, as the backup of a tenant that exists here.
    assert set(named(row)) == {backup, f"{backup}.json", backup.replace(".dump", ".storage.tar")}
    assert Path(backup).exists()
    row = tenant_delete(tenant_id=tenant.id)
    assert set(named(row)) >= {str(copy), f"{copy}.json"} and backup not in named(row)
    assert not Path(backup).exists()
    row = tenant_delete(tenant_id=f"{new_id}2"[-41:])
    assert str(copy) in named(row) and copy.exists()


def test_a_bundle_that_was_imported_is_named(tenant: Tenant, tmp_path: Path, age_key: AgeKey) -> None:
    add_run(tenant)
    bundle = tmp_path / "moves.bundle"
    tenant_export(tenant_id=tenant.id, output=str(bundle), recipient=age_key.recipient)
    moved = tmp_path / "moved.bundle"
    bundle.rename(moved)
    new_id = f"in-{tenant.id}"[:41]
    tenant_import(file=str(moved), new_id=new_id, age_identity_file=age_key.age_identity_file)
    for tenant_id in (new_id, tenant.id):
        row = tenant_delete(tenant_id=tenant_id)
        assert {path: one["sha256"] for path, one in named(row).items()} == {str(moved): sha256(moved)}
        assert "read for an import" in words(row)


def test_what_came_through_a_pipe_is_named_by_its_digest(tenant: Tenant, tmp_path: Path) -> None:
    add_run(tenant)
    backup = back_up(tenant, tmp_path / "backups")
    digest = sha256(backup)
    result = seo_gen_piped(
        *("tenant", "restore", "--tenant-id", tenant.id, "--backup-file", "/dev/stdin", "--confirm"),
        given=Path(backup).read_bytes(),
    )
    assert result.returncode == 0, result.stderr
    row = tenant_delete(tenant_id=tenant.id)
    [(path, one)] = named(row).items()
    assert path.startswith("/dev/stdin (") and (one["left"], one["sha256"]) == ("stream", digest)
    assert "It came through a pipe" in words(row)


def test_a_bundle_is_not_taken_from_a_pipe(tenant: Tenant, tmp_path: Path) -> None:
    bundle, new_id = tmp_path / "moves.bundle", f"pipe-{tenant.id}"[:41]
    tenant_export(tenant_id=tenant.id, output=str(bundle))
    result = seo_gen_piped("tenant", "import", "--file", "-", "--id", new_id, given=bundle.read_bytes())
    assert result.returncode == 1 and b"a pipe can be read only once" in result.stderr
    assert not Tenant.objects.filter(pk=new_id).exists()


def test_a_redirected_file_is_known_by_its_path(tenant: Tenant, tmp_path: Path) -> None:
    file = brought(back_up(tenant, tmp_path / "backups"), tmp_path / "home")
    link = tmp_path / "link.dump"
    link.symlink_to(file)
    tenant_restore(tenant_id=tenant.id, backup_file=str(link))
    assert FileRead.objects.filter(identity=tenant.identity, place=str(file.parent), name=file.name).exists()


def test_it_is_recorded_before_it_is_used(tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The readers are interrupted: the path is recorded, and the digest is taken when the tenant is erased."""
    file = brought(back_up(tenant, tmp_path / "backups"), tmp_path / "backups")
    seen: list[str] = []

    def die(*_arguments: object, **_options: object) -> None:
        seen.extend(FileRead.objects.filter(identity=tenant.identity).values_list("name", flat=True))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sources, "load", die)
        with pytest.raises(KeyboardInterrupt):
            tenant_restore(tenant_id=tenant.id, backup_file=str(file))
        with pytest.raises(KeyboardInterrupt):
            tenant_drill(tenant_id=tenant.id, backup_file=str(file))
        with pytest.raises(KeyboardInterrupt):
            backups_verify(file=str(file))
    assert seen and set(seen) == {file.name, f"{file.name}.json"}
    row = tenant_delete(tenant_id=tenant.id)
    # How much of it was read is not known, so it is not removed.
    assert named(row)[str(file)]["sha256"] == sha256(file) and file.exists()


def test_a_backup_without_a_tenant_here_is_verified_on_a_default_server_that_is_full(
    tenant: Tenant, tmp_path: Path
) -> None:
    file, default = back_up(tenant, tmp_path), DatabaseServer.objects.filter(is_default=True)
    [before] = default.values_list("capacity", flat=True)
    Tenant.objects.filter(pk=tenant.pk).update(server=None)
    default.update(capacity=0, is_active=False)
    try:
        [verification] = backups_verify(file=file)
    finally:
        default.update(capacity=before, is_active=True)
        Tenant.objects.filter(pk=tenant.pk).update(server=tenant.server)
    assert verification.problem == ""


def test_a_file_that_is_read_again_has_one_row_for_each_content(tenant: Tenant, tmp_path: Path) -> None:
    file = brought(back_up(tenant, tmp_path / "backups"), tmp_path / "home")
    for _again in range(2):
        tenant_drill(tenant_id=tenant.id, backup_file=str(file))
    backups_verify(file=str(file))
    rows = FileRead.objects.filter(identity=tenant.identity).order_by("name")
    assert [(one.name, one.sha256, one.purpose) for one in rows] == [
        (path.name, sha256(path), "verify") for path in (file, Path(f"{file}.json"))
    ]
    assert rows[0].size_bytes == file.stat().st_size and rows[0].user_id == "system"
    # Two dumps of the same content within one second are identical, byte for byte.
    add_run(tenant)
    brought(back_up(tenant, tmp_path / "backups"), tmp_path / "home")
    tenant_drill(tenant_id=tenant.id, backup_file=str(file))
    assert FileRead.objects.filter(identity=tenant.identity, name=file.name).count() == 2


def test_a_file_in_a_bucket_is_removed_with_its_versions(tenant: Tenant, s3_place: str) -> None:
    backup = back_up(tenant, s3_place)
    client, bucket = s3_client(), s3_place.split("/")[2]
    key = backup.removeprefix(f"s3://{bucket}/")
    for suffix in ("", ".json"):
        client.copy_object(
            Bucket=bucket, CopySource={"Bucket": bucket, "Key": key + suffix}, Key=f"backups/brought.dump{suffix}"
        )
    tenant_drill(tenant_id=tenant.id, backup_file=f"{s3_place}/brought.dump")
    row = tenant_delete(tenant_id=tenant.id)
    assert set(erased(row)) == {f"{s3_place}/brought.dump", f"{s3_place}/brought.dump.json"}
    left = client.list_objects_v2(Bucket=bucket, Prefix="backups/brought").get("Contents", [])
    assert left == []


def test_files_read_for_a_failed_new_tenant_belong_to_no_one(tenant: Tenant, tmp_path: Path) -> None:
    """The next tenant with that id may belong to another customer, so its certificate must not list the file."""
    damaged = brought(back_up(tenant, tmp_path / "backups"), tmp_path / "home")
    damaged.write_bytes(damaged.read_bytes()[:-10] + b"0123456789")
    new_id = f"never-{tenant.id}"[:41]
    with pytest.raises(TenantError):
        tenant_clone(tenant_id=tenant.id, new_id=new_id, backup_file=str(damaged))
    made = tenant_clone(tenant_id=tenant.id, new_id=new_id, backup_file=back_up(tenant, tmp_path / "backups"))
    row = tenant_delete(tenant_id=made.tenant_id)
    assert str(damaged) not in named(row)
    assert str(damaged) in named(tenant_delete(tenant_id=tenant.id))
    remove_all([new_id])


def test_a_certificate_of_an_older_release_is_still_shown(tenant: Tenant, tmp_path: Path) -> None:
    row = tenant_delete(tenant_id=tenant.id)
    assert row.certificate is not None
    older = json.loads(json.dumps(row.certificate))
    del older["erased"]["files"], older["remains"]["files"]
    assert [part.title for part in certificate_sections(older)] == [
        part.title for part in certificate_sections(row.certificate)
    ]
