"""Base backup, log and recovery of a PostgreSQL of the machine, older than the embedded one (`make external`)."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.stack import process, system_user
from config.stack.postgres import binaries_folder
from tenants.base_backups import BaseBackupError
from tenants.models import DatabaseServer, Restore
from tenants.recovery import Target
from tenants.restore_points import restore_point
from tenants.services import tenant_create, tenant_restore, tenant_restore_undo
from tenants.services.cluster_backup import cluster_backup
from tenants.services.setup import server_register
from tests.tenants.archives import commit, connected, forget, new_database, now, program, remains, rows_at
from tests.tenants.filled import add_run, destroy_rows, everything_of, rows_of, without_audit
from tests.tenants.test_cluster_backup import RECEIVE
from tests.tenants.test_restore import back_up, chain_is_whole

BINARIES = Path("/usr/lib/postgresql/15/bin")
SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
port = {port}
fsync = off
max_connections = 60
max_prepared_transactions = 7
archive_mode = on
archive_command = 'test ! -f "{archive}/%f" && cp "%p" "{archive}/%f"'
"""

pytestmark = [
    pytest.mark.external,
    pytest.mark.skipif(not BINARIES.is_dir(), reason=f"there is no PostgreSQL 15 in {BINARIES}"),
]


@pytest.fixture
def older(tmp_path: Path) -> Iterator[DatabaseServer]:
    """A PostgreSQL 15 of the test's own, which archives with a command; registered as "older"."""
    account = system_user.ensure_account() if system_user.needed() else None
    identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
    port, password = process.free_port(), secrets.token_hex(8)
    data, archive, key = tmp_path / "data", tmp_path / "archive", tmp_path / "password"
    key.write_text(password)
    for folder in (data, archive):
        folder.mkdir(mode=0o700)
    if account:
        for path in (data, archive, key):
            os.chown(path, account.pw_uid, account.pw_gid)
        system_user.let_through(account, data)
    initdb = [BINARIES / "initdb", "-D", data, "-U", "postgres", "--pwfile", key, "--auth=scram-sha-256", "--no-sync"]
    subprocess.run(initdb, check=True, capture_output=True, cwd=data, **identity)  # type: ignore[call-overload]
    with (data / "postgresql.conf").open("a") as file:
        file.write(SETTINGS.format(port=port, archive=archive))
    control = [BINARIES / "pg_ctl", "-D", data, "-l", data / "log", "-w"]
    subprocess.run([*control, "start"], check=True, capture_output=True, cwd=data, **identity)  # type: ignore[call-overload]
    try:
        url = f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
        server = server_register(name="older", admin_url=url)
        yield server
        forget(server)
    finally:
        stop = [*control, "-m", "immediate", "stop"]
        subprocess.run(stop, check=True, capture_output=True, cwd=data, **identity)  # type: ignore[call-overload]


def test_it_is_recovered_from_what_it_archives_itself(older: DatabaseServer, tmp_path: Path) -> None:
    older.wal_archive = str(tmp_path / "archive")
    older.save()
    recover(older, tmp_path)
    with pytest.raises(BaseBackupError, match="older runs PostgreSQL 15, which has no incremental base backups"):
        cluster_backup(server_name="older", output=str(tmp_path / "base"), incremental=True)


def test_it_is_recovered_through_the_command_of_another_tool(older: DatabaseServer, tmp_path: Path) -> None:
    older.wal_restore_command = f"cp {tmp_path}/archive/%f %p"
    older.save()
    recover(older, tmp_path)


def test_it_is_recovered_from_its_received_log(older: DatabaseServer, tmp_path: Path) -> None:
    with program(RECEIVE, "older", str(tmp_path / "received")) as receiving:
        assert receiving.stdout is not None and receiving.stderr is not None
        assert receiving.stdout.readline(), receiving.stderr.read()
        older.refresh_from_db()
        recover(older, tmp_path)


def recover(server: DatabaseServer, folder: Path) -> None:
    """Recover to between two commits, and to before a drop."""
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
    older: DatabaseServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older.wal_archive = str(tmp_path / "archive")
    older.save()
    cluster_backup(server_name="older", output=str(tmp_path / "base"))
    tenant, other = (tenant_create(name=f"older {name}", server_name="older") for name in "ab")
    add_run(tenant)
    before = without_audit(everything_of(tenant))
    with connected(older) as connection:
        moment = now(connection)
    # With the programs of its own version, and with newer ones alone, as where only ours are installed.
    for folder in (BINARIES, binaries_folder()):
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
