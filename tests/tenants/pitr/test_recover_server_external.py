"""Base backup, WAL and recovery of a PostgreSQL on this machine, older than the embedded one (`make external`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from config.stack.postgres import binaries_folder
from tenants.lifecycle.create import tenant_create
from tenants.lifecycle.setup import server_register
from tenants.models import DatabaseServer, Restore
from tenants.pitr.base_backup import cluster_backup
from tenants.pitr.base_backup_files import BaseBackupError
from tenants.pitr.recover_server import RecoveryError, Target
from tenants.restore.restore import tenant_restore
from tenants.restore.undo import tenant_restore_undo
from tenants.servers.restore_points import restore_point
from tests.tenants.pitr.test_base_backup import RECEIVE
from tests.tenants.support.archives import commit, connected, forget, new_database, now, program, remains, rows_at
from tests.tenants.support.backups import back_up
from tests.tenants.support.filled import add_run, destroy_rows, everything_of, rows_of, without_audit
from tests.tenants.support.own_server import BINARIES_15, OwnServer, manual_script, own_server
from tests.tenants.support.restores import chain_is_whole

pytestmark = [
    pytest.mark.external,
    pytest.mark.skipif(not BINARIES_15.is_dir(), reason=f"there is no PostgreSQL 15 in {BINARIES_15}"),
]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[OwnServer]:
    """Yield a PostgreSQL 15 server that has the manual's roles, and that archives its WAL with a command."""
    with own_server(tmp_path / "own", BINARIES_15, script=manual_script()) as server:
        yield server


@pytest.fixture
def older(own: OwnServer) -> Iterator[DatabaseServer]:
    """Yield the same server, registered as "older" with an administrator that is not a superuser."""
    server = server_register(name="older", admin_url=own.url())
    yield server
    forget(server)


def test_it_is_recovered_from_what_it_archives_itself(own: OwnServer, older: DatabaseServer, tmp_path: Path) -> None:
    older.wal_archive = str(own.archive)
    older.save()
    recover(older, tmp_path)
    with pytest.raises(
        BaseBackupError, match="older runs PostgreSQL 15, which does not support incremental base backups"
    ):
        cluster_backup(server_name="older", output=str(tmp_path / "base"), incremental=True)


def test_it_is_recovered_through_the_command_of_another_tool(
    own: OwnServer, older: DatabaseServer, tmp_path: Path
) -> None:
    older.wal_restore_command = f'cp {own.archive}/%f "%p"'
    older.save()
    recover(older, tmp_path)


def test_it_is_recovered_from_its_received_log(older: DatabaseServer, tmp_path: Path) -> None:
    with program(RECEIVE, "older", str(tmp_path / "received")) as receiving:
        assert receiving.stdout is not None and receiving.stderr is not None
        assert receiving.stdout.readline(), receiving.stderr.read()
        older.refresh_from_db()
        recover(older, tmp_path)


def test_a_restore_command_that_is_not_there_is_named(own: OwnServer, older: DatabaseServer, tmp_path: Path) -> None:
    older.wal_restore_command = "no-such-tool %f %p"
    older.save()
    cluster_backup(server_name="older", output=str(tmp_path / "base"))
    database = new_database(older)
    moment = commit(older, database, "first")
    with pytest.raises(RecoveryError, match="The restore command of database server older failed: exit status 127"):
        rows_at(older, Target(time=moment), database)
    assert remains() == []


def recover(server: DatabaseServer, folder: Path) -> None:
    """Recover to a time between two commits and, by name and by time, to a restore point before a drop."""
    database, neighbour = new_database(server), new_database(server)
    backup = cluster_backup(server_name=server.name, output=str(folder / "base"))
    assert backup.server_version == 15
    first = commit(server, database, "first")
    commit(server, database, "second")
    commit(server, neighbour, "neighbour")
    point = restore_point(server, reason="delete")
    assert point is not None
    with connected(server) as connection:
        connection.execute(f"DROP DATABASE {neighbour}")
    assert rows_at(server, Target(time=first), database) == ["first"]
    assert rows_at(server, Target(name=point.name), neighbour) == ["neighbour"]
    assert rows_at(server, Target(time=point.created_at), neighbour) == ["neighbour"]
    assert remains() == []


@pytest.mark.usefixtures("empty_fleet")
def test_one_tenant_on_it_is_backed_up_restored_and_goes_back_in_time(
    own: OwnServer, older: DatabaseServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older.wal_archive = str(own.archive)
    older.save()
    cluster_backup(server_name="older", output=str(tmp_path / "base"))
    tenant, other = (tenant_create(name=f"older {name}", server_name="older") for name in "ab")
    add_run(tenant)
    before = without_audit(everything_of(tenant))
    with connected(older) as connection:
        moment = now(connection)
    # With the programs of its own version, and with newer ones only, as if only ours were installed.
    for folder in (BINARIES_15, binaries_folder()):
        monkeypatch.setenv("PG_BIN_DIR", str(folder))
        for dump_format in ("custom", "plain"):
            file = back_up(tenant, tmp_path / folder.parent.name, dump_format=dump_format)
            destroy_rows(tenant)
            tenant_restore(tenant_id=tenant.id, backup_file=file)
            assert without_audit(everything_of(tenant)) == before
    monkeypatch.delenv("PG_BIN_DIR")
    untouched = everything_of(other)
    destroy_rows(tenant)
    tenant_restore(tenant_id=tenant.id, to_time=moment)
    assert without_audit(everything_of(tenant)) == before and chain_is_whole(tenant)
    tenant_restore_undo(tenant_id=tenant.id)
    assert rows_of(tenant)["runs"] == []
    assert everything_of(other) == untouched
    assert remains() == []
    for one in (tenant, other):
        Restore.objects.filter(tenant_id=one.pk).delete()
        one.delete()
