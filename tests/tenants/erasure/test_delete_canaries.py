"""Erase a tenant full of canary strings, then search for them everywhere, byte by byte."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from django.core.cache import cache
from django.db import transaction
from pytest_django import Settings

from audit.log.entries import record
from config import stack
from tenants.backup.backup import tenant_backup
from tenants.erasure.cache import cache_key
from tenants.erasure.delete import tenant_delete
from tenants.erasure.verify import erasures_verify
from tenants.files.locations import s3_client
from tenants.lifecycle.create import tenant_create
from tenants.lifecycle.setup import MAIN_SERVER
from tenants.models import BackupStatus, BaseBackup, DatabaseServer, Tenant
from tenants.pitr.base_backup import cluster_backup
from tenants.restore.restore import tenant_restore
from tenants.retention.prune import backup_prune
from tenants.routing.context import tenant_context
from tenants.transfer.export import tenant_export
from tests.support.s3 import S3Server
from tests.support.tenant_fixtures import remove
from tests.tenants.support.archives import archived_postgres, connected
from tests.tenants.support.backups import back_up
from tests.tenants.support.canaries import (
    add_files,
    add_messages,
    add_turns,
    canary,
    fill_columns,
    found_in_bucket,
    found_in_databases,
    found_in_files,
    found_in_redis,
)
from tests.tenants.support.erased import forget_erasure
from tests.tenants.support.filled import add_run, everything_of

BUCKET = "canaries"


@dataclass(frozen=True)
class Surroundings:
    server: DatabaseServer
    # Everything on the disk: that server's files, those of the control database's server, and backups.
    server_home: Path
    control_home: Path
    folder: Path
    s3: str


@pytest.fixture(params=["files in folders", "files in S3"])
def around(
    request: pytest.FixtureRequest, tmp_path: Path, stack_home: stack.Home, s3_server: S3Server, settings: Settings
) -> Iterator[Surroundings]:
    """Yield a server that archives its WAL, and two locations for backups.

    Artifacts are in a folder or in S3, depending on the parameter.
    """
    request.getfixturevalue("s3_place")
    client = s3_client()
    if BUCKET not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket=BUCKET)
        client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    if request.param == "files in S3":
        options = {
            "bucket_name": BUCKET,
            "endpoint_url": s3_server.endpoint,
            "region_name": s3_server.region,
            "access_key": s3_server.access_key,
            "secret_key": s3_server.secret_key,
            "file_overwrite": True,
        }
        artifacts = {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options}
        settings.STORAGES = {**settings.STORAGES, "artifacts": artifacts}
    with archived_postgres(tmp_path, "canaries") as server:
        yield Surroundings(server, tmp_path, stack_home.path, tmp_path / "backups", f"s3://{BUCKET}/backups")
        for tenant in Tenant.objects.filter(server=server):
            remove(tenant)


def test_no_canary_survives(around: Surroundings, settings: Settings) -> None:
    text, audited = canary(), canary()
    neighbour = tenant_create(name="neighbour", server_name=around.server.name)
    add_run(neighbour)
    neighbours_backup = Path(back_up(neighbour, around.folder))
    tenant = tenant_create(name=f"Customer {text}", tenant_id=f"c-{canary()}", server_name=around.server.name)
    fill(tenant, around, text, audited)
    before = everything_of(neighbour), neighbours_backup.read_bytes()
    base = cluster_backup(server_name=around.server.name, output=str(around.server_home / "base"))
    add_messages((tenant, text), (neighbour, "neighbours-message"))

    # Where the canary is beforehand: otherwise there would be nothing to prove.
    main = DatabaseServer.objects.get(pk=MAIN_SERVER)
    pass_time(main)
    files = found_in_files(around.server_home, text)
    assert any("/data/base/" in str(path) for path in files)
    assert any(f"/{base.name}/" in str(path) for path in files)
    assert found_in_databases(around.server, text)
    assert len(found_in_redis(text)) >= 6
    assert found_in_bucket(s3_client(), BUCKET, text)
    assert found_in_files(around.control_home / "postgres" / "data" / "base", text)  # its name
    assert {name.split(".")[1] for name in found_in_databases(main, text)} >= {
        "tenants",
        "run_summaries",
        "daily_costs",
    }

    row = tenant_delete(tenant_id=tenant.id)

    assert found_in_databases(around.server, text) == []
    assert found_in_databases(main, text) == []
    assert found_in_databases(around.server, audited) == []
    assert [name.split(".")[1] for name in found_in_databases(main, audited)] == ["archived_audit_logs"]
    # Its name is not even in the bytes of tables any more, so that no later base backup has it.
    pass_time(main)
    assert found_in_files(around.control_home / "postgres" / "data" / "base", text) == []
    assert found_in_redis(text) == []
    assert found_in_redis("neighbours-message")
    assert found_in_bucket(s3_client(), BUCKET, text) == []
    assert (everything_of(neighbour), neighbours_backup.read_bytes()) == before

    # On the disk, it is in what the certificate names, and nowhere else.
    assert row.certificate is not None
    physical = row.certificate["remains"]["physical"]
    named = [one["path"] for one in physical["base_backups"]]
    assert named == [str(around.server_home / "base" / base.name)]
    on_disk = found_in_files(around.server_home, text)
    logs = [path for path in on_disk if path.parent in {Path(physical["wal_archive"]), wal_of(around.server_home)}]
    assert logs and all(path.name <= physical["wal_until_segment"] for path in logs)
    assert [path for path in on_disk if path not in logs and not str(path).startswith(tuple(named))] == []
    [check] = erasures_verify(tenant_id=tenant.id)
    assert check.problems == [] and len(check.remaining) >= 3 and is_reported_unless_failed(base, tenant)

    # The retention run, once it is due.
    settings.CLUSTER_BACKUP_RETENTION_DAYS = 0
    cluster_backup(server_name=around.server.name, output=str(around.server_home / "base"))
    assert [one.problem for one in backup_prune() if one.problem] == []
    for server in (around.server, main):
        pass_time(server)
    assert found_in_files(around.server_home, text) == []
    # How long the S3 server's own volumes keep deleted objects is up to that server.
    assert [path for path in found_in_files(around.control_home, text) if "/s3" not in str(path)] == []
    [check] = erasures_verify(tenant_id=tenant.id)
    assert (check.problems, check.remaining) == ([], [])
    assert (everything_of(neighbour), neighbours_backup.read_bytes()) == before
    forget_erasure(row)


def is_reported_unless_failed(base: BaseBackup, tenant: Tenant) -> bool:
    """Return whether the erasure's check names the base backup if it is completed, but not if it has failed."""
    found = []
    for status in (BackupStatus.FAILED, BackupStatus.COMPLETED):
        BaseBackup.objects.filter(pk=base.pk).update(status=status)
        [check] = erasures_verify(tenant_id=tenant.id)
        found.append(any(base.name in sentence for sentence in check.remaining))
    return found == [False, True]


def fill(tenant: Tenant, around: Surroundings, text: str, audited: str) -> None:
    """Put `text` into the tenant's rows, files, backups, exports, cache and turns, and `audited` into its audit log."""
    add_run(tenant, text=text)
    fill_columns(tenant, text)
    add_files(tenant, text)
    with tenant_context(tenant) as alias, transaction.atomic(using=alias):
        record(using=alias, action="run.create", resource_type="run", resource_id=audited, details={audited: [audited]})
    for place in (str(around.folder), around.s3):
        for dump_format in ("custom", "plain"):
            back_up(tenant, place, dump_format=dump_format, with_storage=True)
    for name in (f"{around.folder}/bundle.tar", f"{around.s3}/bundle.tar"):
        tenant_export(tenant_id=tenant.id, output=name)
    # A replaced database that is kept, and the files that are set aside with it.
    [outcome] = tenant_backup(tenant_id=tenant.id, output=str(around.folder))
    assert outcome.backup is not None
    tenant_restore(tenant_id=tenant.id, backup_file=f"{outcome.backup.place}/{outcome.backup.name}")
    cache.set(cache_key(tenant.id, text), text)
    add_turns(tenant, text)


def wal_of(home: Path) -> Path:
    return home / "postgres" / "data" / "pg_wal"


def pass_time(server: DatabaseServer) -> None:
    """Make the server do what it does over time: end WAL segments and make checkpoints."""
    with connected(server) as connection:
        for _ in range(2):
            connection.execute("SELECT pg_logical_emit_message(true, 'test', 'x')")
            connection.execute("SELECT pg_switch_wal()")
            connection.execute("CHECKPOINT")
