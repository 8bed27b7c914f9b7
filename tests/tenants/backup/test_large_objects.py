"""Large objects, which a tenant's role can create on some servers: backups leave them out and report them."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import psycopg
import pytest
from django.core.management import CommandError, call_command

from tenants.backup.backup import tenant_backup
from tenants.backup.dump import DumpFormat
from tenants.backup.manifest import SUFFIX, manifest_read
from tenants.lifecycle.status import tenant_statuses
from tenants.models import DatabaseServer, Restore, Tenant, database_prefix
from tenants.restore.restore import tenant_restore
from tenants.servers.session import ServerSession
from tenants.transfer.clone import tenant_clone
from tests.support.tenant_fixtures import MakeTenant, remove_all
from tests.tenants.support.filled import add_run, as_superuser, everything_of, without_audit


@pytest.fixture
def littered(make_tenant: MakeTenant) -> Tenant:
    """Return a tenant with a run, whose role has created two large objects, one of them with content.

    The product's base database revokes that right. Granting it here makes the server like one without that database.
    """
    tenant = make_tenant()
    add_run(tenant)
    with as_superuser(tenant) as superuser:
        for function in ("lo_create(oid)", "lo_from_bytea(oid, bytea)", "lo_unlink(oid)"):
            superuser.execute(f"GRANT EXECUTE ON FUNCTION {function} TO PUBLIC".encode())
    with psycopg.connect(tenant.database_url, autocommit=True) as connection:
        connection.execute("SELECT lo_create(0), lo_from_bytea(0, 'content')")
    return tenant


@pytest.mark.parametrize("dump_format", DumpFormat)
def test_a_backup_leaves_them_out_and_says_so(littered: Tenant, tmp_path: Path, dump_format: DumpFormat) -> None:
    [outcome] = tenant_backup(tenant_id=littered.id, output=str(tmp_path), dump_format=dump_format)
    assert outcome.problem == "" and outcome.backup is not None and outcome.backup.manifest is not None
    assert outcome.backup.manifest["large_objects"] == 2
    manifest = manifest_read((tmp_path / (outcome.backup.name + SUFFIX)).read_bytes(), "it")
    assert (manifest.large_objects, manifest.drift) == (2, [])


def test_the_command_names_the_tenant(littered: Tenant, tmp_path: Path) -> None:
    told, shown = StringIO(), StringIO()
    call_command("tenant_backup", tenant_id=littered.id, output=str(tmp_path), stdout=shown, stderr=told)
    assert f"Tenant {littered.id} has large objects, which its backup does not include" in told.getvalue()
    call_command("tenant_backup", "--json", tenant_id=littered.id, output=str(tmp_path), stdout=(shown := StringIO()))
    assert json.loads(shown.getvalue())[0]["backup"]["large_objects_left_out"] == 2


def test_status_names_them_until_they_are_gone(littered: Tenant) -> None:
    [health] = tenant_statuses(tenant_id=littered.id, check=True)
    assert health.large_objects == 2 and health.drift == []
    assert health.problem == "Its database contains large objects (2), which backups leave out."
    with pytest.raises(CommandError, match=f"Unhealthy: {littered.id}"):
        call_command("tenant_status", tenant_id=littered.id, stdout=StringIO())
    with psycopg.connect(littered.database_url, autocommit=True) as connection:
        connection.execute("SELECT lo_unlink(oid) FROM pg_largeobject_metadata")
    [health] = tenant_statuses(tenant_id=littered.id, check=True)
    assert (health.large_objects, health.problem) == (0, None)


def test_what_is_restored_or_copied_has_none(littered: Tenant, tmp_path: Path) -> None:
    before = everything_of(littered)
    [outcome] = tenant_backup(tenant_id=littered.id, output=str(tmp_path))
    assert outcome.backup is not None
    file = str(tmp_path / outcome.backup.name)
    report = tenant_clone(tenant_id=littered.id, new_id=f"{littered.id[:30]}-copy", backup_file=file)
    tenant_restore(tenant_id=littered.id, backup_file=file)
    try:
        for tenant_id in (littered.id, report.tenant_id):
            tenant = Tenant.objects.get(pk=tenant_id)
            with psycopg.connect(tenant.database_url) as connection:
                assert connection.execute("SELECT count(*) FROM pg_largeobject_metadata").fetchone() == (0,)
        assert without_audit(everything_of(littered)) == without_audit(before)
    finally:
        remove_all([report.tenant_id])
        # The replaced database still has them, so the role could not be dropped.
        with ServerSession(DatabaseServer.objects.get(pk="main"), database_prefix()) as server_session:
            server_session.drop_database(Restore.objects.get(tenant_id=littered.id).kept)
