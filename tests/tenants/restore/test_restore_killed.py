"""Kill restore, undo, clone, backup, export, import, drill and verification, then run `tenant recover`.

Afterwards, a tenant has either the old state or the new one, complete, and no leftovers of the operation remain.
"""

from __future__ import annotations

import os
import random
import time
import uuid
from pathlib import Path

import psycopg
import pytest

from tenants.backup.backup import tenant_backup
from tenants.errors import TenantNotActive, TenantUnfinished
from tenants.files import tenant_storage
from tenants.lifecycle.suspend import tenant_suspend
from tenants.models import Backup, BackupStatus, Restore, Tenant, TenantStatus
from tenants.restore.restore import tenant_restore
from tenants.restore.undo import tenant_restore_undo
from tenants.routing.context import tenant_context
from tenants.transfer.export import tenant_export
from tenants.transfer.import_ import tenant_import
from tenants.unfinished import tenant_recover
from tests.support.superuser import superuser_url
from tests.support.tenant_fixtures import remove
from tests.tenants.support.backups import back_up
from tests.tenants.support.created import tenants_objects
from tests.tenants.support.filled import add_run, everything_of, without_audit
from tests.tenants.support.killed import begun, die_at, files_in
from tests.tenants.support.restores import chain_is_whole, scratch_things

pytestmark = pytest.mark.chaos

# (step, whether the tenant has the restored state when recovered)
RESTORE_STEPS = [
    ("load", False),
    ("verify", False),
    ("migrate", False),
    ("settle", False),
    ("close", False),
    ("swap", False),
    ("open", True),
    ("reconcile", True),
]
# `make chaos` runs more of them.
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "2"))


def assert_nothing_left(tenant: Tenant) -> None:
    assert tenant_recover() == []
    assert tenant.server is not None
    assert scratch_things(tenant.server.admin_url) == []
    tenant.refresh_from_db()
    assert tenant.status == TenantStatus.ACTIVE
    with tenant_context(tenant):
        pass
    assert chain_is_whole(tenant)


def kept_databases(tenant: Tenant) -> int:
    assert tenant.server is not None
    with psycopg.connect(superuser_url(tenant.server.admin_url)) as connection:
        query = "SELECT count(*) FROM pg_database WHERE datname LIKE '%\\_kept\\_%'"
        return int(connection.execute(query).fetchall()[0][0])


@pytest.mark.parametrize(("step", "restored"), RESTORE_STEPS)
def test_restore_killed_at_a_step(tenant: Tenant, tmp_path: Path, step: str, restored: bool) -> None:
    add_run(tenant)
    old = without_audit(everything_of(tenant))
    file = back_up(tenant, tmp_path)
    add_run(tenant)
    new = without_audit(everything_of(tenant))
    kept = kept_databases(tenant)
    die_at(step, "tenant_restore", tenant_id=tenant.id, backup_file=file)
    with pytest.raises((TenantUnfinished, TenantNotActive)):
        tenant_suspend(tenant_id=tenant.id)
    outcomes = [(one.tenant_id, one.kind, one.outcome) for one in tenant_recover()]
    assert outcomes == [(tenant.id, "restore", "finished" if restored else "undone")]
    assert_nothing_left(tenant)
    now = without_audit(everything_of(tenant))
    assert {**now, "files": None} == {**(old if restored else new), "files": None}
    assert kept_databases(tenant) == kept + restored
    # And the next operation is possible again.
    tenant_restore_undo(tenant_id=tenant.id) if restored else tenant_restore(tenant_id=tenant.id, backup_file=file)


@pytest.mark.parametrize(
    ("step", "undone"), [("migrate", False), ("close", False), ("swap", False), ("open", True), ("reconcile", True)]
)
def test_undo_killed_at_a_step(tenant: Tenant, tmp_path: Path, step: str, undone: bool) -> None:
    file = back_up(tenant, tmp_path)
    restored = without_audit(everything_of(tenant))["rows"]
    add_run(tenant)
    replaced = without_audit(everything_of(tenant))["rows"]
    tenant_restore(tenant_id=tenant.id, backup_file=file)
    kept = kept_databases(tenant)
    die_at(step, "tenant_restore_undo", tenant_id=tenant.id)
    assert [one.outcome for one in tenant_recover()] == ["finished" if undone else "undone"]
    assert_nothing_left(tenant)
    assert without_audit(everything_of(tenant))["rows"] == (replaced if undone else restored)
    assert kept_databases(tenant) == kept
    tenant_restore_undo(tenant_id=tenant.id)
    assert without_audit(everything_of(tenant))["rows"] == (restored if undone else replaced)


@pytest.mark.parametrize("step", ["snapshot", "dump", "account", "storage", "manifest"])
def test_backup_killed_at_a_step(tenant: Tenant, tmp_path: Path, step: str) -> None:
    add_run(tenant)
    die_at(step, "tenant_backup", tenant_id=tenant.id, output=str(tmp_path / "b"), with_storage=True)
    assert [(one.kind, one.outcome) for one in tenant_recover()] == [("backup", "undone")]
    assert files_in(tmp_path) == []
    assert Backup.objects.get(tenant_id=tenant.id).status == BackupStatus.FAILED
    assert_nothing_left(tenant)
    [outcome] = tenant_backup(tenant_id=tenant.id, output=str(tmp_path / "b"))
    assert outcome.backup is not None


@pytest.mark.parametrize("step", ["dump", "bundle"])
def test_export_killed_at_a_step(tenant: Tenant, tmp_path: Path, step: str) -> None:
    add_run(tenant)
    bundle = tmp_path / "b" / "bundle.tar"
    die_at(step, "tenant_export", tenant_id=tenant.id, output=str(bundle))
    assert [(one.kind, one.outcome) for one in tenant_recover()] == [("export", "undone")]
    assert files_in(tmp_path) == []
    tenant_export(tenant_id=tenant.id, output=str(bundle))
    assert files_in(tmp_path) == ["bundle.tar"]


@pytest.mark.parametrize("step", ["load", "verify", "identity", "files", "configuration", "access", "open"])
def test_import_killed_at_a_step(tenant: Tenant, tmp_path: Path, step: str) -> None:
    add_run(tenant)
    bundle = str(tmp_path / "bundle.tar")
    tenant_export(tenant_id=tenant.id, output=bundle)
    new_id = f"in-{uuid.uuid4().hex[:12]}"
    die_at(step, "tenant_import", file=bundle, new_id=new_id)
    [recovery] = tenant_recover()
    assert (recovery.tenant_id, recovery.kind, recovery.outcome) == (new_id, "import", "undone")
    assert (
        recovery.reason == f"Tenant {new_id} was not created. The operation was interrupted. Nothing was left behind."
    )
    assert not Tenant.objects.filter(pk=new_id).exists()
    assert (
        tenants_objects(Restore.objects.get(tenant_id=new_id).live) == []
        and list(tenant_storage.objects_of(new_id)) == []
    )
    assert_nothing_left(tenant)
    tenant_import(file=bundle, new_id=new_id)
    remove(Tenant.objects.get(pk=new_id))


@pytest.mark.parametrize("step", ["load", "identity", "open"])
def test_clone_killed_at_a_step(tenant: Tenant, tmp_path: Path, step: str) -> None:
    file = back_up(tenant, tmp_path)
    new_id = f"as-{uuid.uuid4().hex[:12]}"
    die_at(step, "tenant_clone", tenant_id=tenant.id, new_id=new_id, backup_file=file)
    assert [(one.tenant_id, one.kind, one.outcome) for one in tenant_recover()] == [(new_id, "clone", "undone")]
    assert tenants_objects(Restore.objects.get(tenant_id=new_id).live) == []
    assert_nothing_left(tenant)


def test_restore_killed_at_random_moments(tenant: Tenant, tmp_path: Path) -> None:
    """The kill may hit a statement, a rename, or a write to the control database."""
    chance = random.Random(os.environ.get("CHAOS_SEED", "4"))
    add_run(tenant)
    file = back_up(tenant, tmp_path)
    old = without_audit(everything_of(tenant))["rows"]
    for _ in range(ROUNDS):
        add_run(tenant)
        new = without_audit(everything_of(tenant))["rows"]
        with begun("tenant_restore", tenant_id=tenant.id, backup_file=file) as process:
            time.sleep(chance.uniform(0, 0.6))
            process.kill()
        tenant_recover()
        assert_nothing_left(tenant)
        assert without_audit(everything_of(tenant))["rows"] in (old, new)


def test_a_drill_or_a_verification_that_was_killed_leaves_nothing(tenant: Tenant, tmp_path: Path) -> None:
    file = back_up(tenant, tmp_path)
    die_at("verify", "tenant_drill", tenant_id=tenant.id, backup_file=file)
    die_at("verify", "backups_verify", file=file)
    assert tenant.server is not None
    assert len(scratch_things(tenant.server.admin_url)) == 4
    assert_nothing_left(tenant)
