"""A tenant's whole life on a PostgreSQL 15 that has only the manual's roles (`make external`).

Only the tests themselves act as a superuser, to change roles and inspect the outcome.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from audit.verification.verify import audit_verify
from config.stack.postgres import APP, CONTROL_DATABASE, CONTROL_OWNER
from tenants.erasure.delete import tenant_delete
from tenants.erasure.verify import erasures_verify
from tenants.fleet.migrate import tenant_migrate
from tenants.lifecycle.create import tenant_create
from tenants.lifecycle.setup import server_register
from tenants.lifecycle.status import tenant_statuses
from tenants.models import Backup, BackupStatus, DatabaseServer, Restore, Tenant
from tenants.pitr.base_backup import cluster_backup
from tenants.restore.drill import tenant_drill
from tenants.restore.restore import tenant_restore
from tenants.restore.undo import tenant_restore_undo
from tenants.restore.verify_backup import backup_verify
from tenants.transfer.clone import tenant_clone
from tenants.transfer.export import tenant_export
from tenants.transfer.import_ import tenant_import
from tests.support.program import seo_gen
from tests.support.releases import NextRelease
from tests.tenants.support.archives import connected, forget, now, remains
from tests.tenants.support.backups import back_up
from tests.tenants.support.filled import add_run, destroy_rows, everything_of, without_audit
from tests.tenants.support.own_server import (
    ADMINISTRATOR,
    BINARIES_15,
    OwnServer,
    manual_script,
    own_server,
    set_password,
)
from tests.tenants.support.restores import chain_is_whole, scratch_things

IN_A_ROW = 20

pytestmark = [
    pytest.mark.external,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not BINARIES_15.is_dir(), reason=f"there is no PostgreSQL 15 in {BINARIES_15}"),
]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[OwnServer]:
    with own_server(tmp_path / "own", BINARIES_15, script=manual_script()) as server:
        yield server


@pytest.fixture
def server(own: OwnServer, tmp_path: Path) -> Iterator[DatabaseServer]:
    server = server_register(name="own", admin_url=own.url())
    server.wal_archive = str(own.archive)
    server.save()
    cluster_backup(server_name="own", output=str(tmp_path / "base"))
    yield server
    tenants = Tenant.objects.filter(server=server)
    Restore.objects.filter(tenant_id__in=tenants.values("pk")).delete()
    tenants.delete()
    forget(server)


@pytest.mark.usefixtures("empty_fleet")
def test_restores_of_both_kinds_succeed_every_time(own: OwnServer, server: DatabaseServer, tmp_path: Path) -> None:
    tenant = tenant_create(name="own a", server_name="own")
    add_run(tenant)
    before = without_audit(everything_of(tenant))
    file = back_up(tenant, tmp_path / "backups")
    with connected(server) as connection:
        moment = now(connection)
    for _ in range(IN_A_ROW):
        destroy_rows(tenant)
        tenant_restore(tenant_id=tenant.id, backup_file=file)
        assert without_audit(everything_of(tenant)) == before
    for _ in range(IN_A_ROW):
        destroy_rows(tenant)
        tenant_restore(tenant_id=tenant.id, to_time=moment)
        assert without_audit(everything_of(tenant)) == before
    assert chain_is_whole(tenant) and remains() == []
    assert scratch_things(server.admin_url) == []


@pytest.mark.usefixtures("empty_fleet", "forgotten")
def test_the_rest_of_a_tenants_life(
    own: OwnServer, server: DatabaseServer, next_release: NextRelease, tmp_path: Path
) -> None:
    tenant = tenant_create(name="own b", server_name="own")
    add_run(tenant)
    before = without_audit(everything_of(tenant))
    file = back_up(tenant, tmp_path / "backups")
    with connected(server) as connection:
        moment = now(connection)
    _change_roles(own, server)

    destroy_rows(tenant)
    destroyed = without_audit(everything_of(tenant))
    tenant_restore(tenant_id=tenant.id, to_time=moment)  # before the roles changed
    assert without_audit(everything_of(tenant)) == before
    tenant_restore_undo(tenant_id=tenant.id)
    assert without_audit(everything_of(tenant)) == destroyed
    tenant_restore_undo(tenant_id=tenant.id)
    with connected(server) as connection:
        later = now(connection)
    destroy_rows(tenant)
    tenant_restore(tenant_id=tenant.id, to_time=later)  # and after
    assert without_audit(everything_of(tenant)) == before

    tenant_clone(tenant_id=tenant.id, new_id="own-copy", backup_file=file)
    tenant_clone(tenant_id=tenant.id, new_id="own-moment", to_time=later)
    assert tenant_drill(tenant_id=tenant.id, backup_file=file)
    assert tenant_drill(tenant_id=tenant.id, to_time=later)
    backup_verify(file, age_identity_file=None)
    assert Backup.objects.get(tenant_id=tenant.id).status == BackupStatus.COMPLETED
    bundle = tmp_path / "own.bundle"
    tenant_export(tenant_id=tenant.id, output=str(bundle))
    tenant_import(file=str(bundle), new_id="own-imported", server_name="own")
    next_release.add("0003_plain")
    with next_release.active():
        report = tenant_migrate()
        assert (report.outcome, report.problems) == ("completed", [])
    assert not [problem for log in audit_verify() for problem in log.problems]
    for tenant_id in ("own-copy", "own-moment", "own-imported", tenant.id):
        [health] = tenant_statuses(tenant_id=tenant_id, check=True)
        assert health.reachable and health.role_changes == []
        tenant_delete(tenant_id=tenant_id)
        [check] = erasures_verify(tenant_id=tenant_id)
        assert check.problems == []
    assert remains() == [] and scratch_things(server.admin_url) == []


def _change_roles(own: OwnServer, server: DatabaseServer) -> None:
    """Give the administrator a new password, and register the server with it."""
    with own.as_superuser() as superuser:
        set_password(superuser, ADMINISTRATOR, own.passwords["postgres"])
    server_register(name="own", admin_url=own.url(password=own.passwords["postgres"]))
    server.refresh_from_db()


def test_the_control_database_is_set_up_on_it_and_customers_live_there(own: OwnServer, tmp_path: Path) -> None:
    """Use the manual's commands, in processes that know only this server."""
    environment = {
        "DATABASE_URL": own.url(APP, CONTROL_DATABASE),
        "SECRET_KEY": secrets.token_urlsafe(48),
        "SEO_GEN_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
        "CELERY_BROKER_URL": os.environ.get("CELERY_BROKER_URL", "redis://127.0.0.1:9/0"),
        "CACHE_URL": os.environ.get("CACHE_URL", "redis://127.0.0.1:9/1"),
        "LOCAL_LLM_URL": "http://127.0.0.1:9/v1",
        "SEO_GEN_HOME": str(tmp_path / "home"),
    }
    for_setup = {"DATABASE_OWNER_URL": own.url(CONTROL_OWNER, CONTROL_DATABASE), "TENANT_SERVER_URL": own.url()}
    made = seo_gen("control", "setup", **environment, **for_setup)
    assert (made.returncode, made.stderr) == (0, "")
    for words in (
        ("tenant", "create", "--name", "customer-a"),
        ("tenant", "status", "--check"),
        ("tenant", "backup", "--all", "--output", str(tmp_path / "backups")),
        ("tenant", "rotate", "--tenant-id", "customer-a"),
        ("tenant", "migrate", "--all"),
        ("audit", "verify", "--all"),
    ):
        done = seo_gen(*words, **environment)
        assert done.returncode == 0, (words, done.stderr)
    again = seo_gen("control", "setup", **environment, **for_setup)
    assert (again.returncode, again.stderr) == (0, "")
