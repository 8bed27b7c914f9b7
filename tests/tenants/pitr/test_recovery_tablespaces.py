"""A recovery never touches live files: tablespaces are refused, and a scratch server could not write to them anyway."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from config.stack import landlock, system_user
from config.stack.postgres import binaries_folder
from tenants.models import BaseBackup, DatabaseServer
from tenants.pitr import base_backup_files
from tenants.pitr.base_backup import cluster_backup
from tenants.pitr.base_backup_files import BaseBackupError
from tenants.pitr.recover_server import RecoveryError, Target, recovered_server
from tenants.pitr.wal_archive import position
from tenants.pitr.wal_check import LogCheck
from tests.tenants.support.archives import archived_postgres, connected, new_database, now, remains, switch
from tests.tenants.support.own_server import own_server

WAL_SEGMENT_BYTES = 2**20
# Roughly how much the statement writes before that record; less, once its pages have been written whole.
BEFORE_RECORD = 600
ATTEMPTS = 20


@dataclass(frozen=True)
class Live:
    """A server on this machine with a tablespace that was created after its base backup."""

    server: DatabaseServer
    database: str
    space: Path
    # When the table in it held old rows; it holds new ones now.
    old: datetime
    digest: str

    def files(self) -> str:
        """Return a digest of everything in the tablespace."""
        digest = hashlib.sha256()
        for path in sorted(self.space.rglob("*")):
            digest.update(f"{path} {path.stat().st_mode}".encode())
            digest.update(path.read_bytes() if path.is_file() else b"")
        return digest.hexdigest()

    def rows(self) -> set[str]:
        with connected(self.server, self.database) as connection:
            return {name for (name,) in connection.execute("SELECT name FROM elsewhere")}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("tablespaces")
    with archived_postgres(folder, "with-space") as server:
        cluster_backup(server_name=server.name, output=str(folder / "base"))
        yield _with_tablespace(server, folder / "space")


def _with_tablespace(server: DatabaseServer, space: Path) -> Live:
    _make_space(space)
    database = new_database(server)
    with connected(server, database) as connection:
        connection.execute(sql.SQL("CREATE TABLESPACE space LOCATION {}").format(str(space)))
        connection.execute("CREATE TABLE elsewhere (name text) WITH (autovacuum_enabled = off) TABLESPACE space")
        connection.execute("INSERT INTO elsewhere SELECT 'old' FROM generate_series(1, 1000)")
        old = now(connection)
        connection.execute("UPDATE elsewhere SET name = 'new'")
        connection.execute("VACUUM (FREEZE) elsewhere")
        connection.execute("CHECKPOINT")
    switch(server)
    made = Live(server, database, space, old, "")
    return Live(server, database, space, old, made.files())


def _make_space(space: Path) -> None:
    space.mkdir(mode=0o700)
    if system_user.needed():
        account = system_user.ensure_account()
        os.chown(space, account.pw_uid, account.pw_gid)
        system_user.let_through(account, space)


def gone(server: DatabaseServer) -> DatabaseServer:
    """Return the server with an address that does not answer, so that only its WAL reveals tablespaces."""
    away = DatabaseServer.objects.get(pk=server.pk)
    away.admin_url = "postgresql://postgres@127.0.0.1:9/postgres"
    return away


def refused(server: DatabaseServer, live: Live) -> str:
    with (
        pytest.raises(RecoveryError) as error,
        recovered_server(server, Target(time=live.old), work=str(uuid4()), database=live.database),
    ):
        pass
    assert remains() == []
    return str(error.value)


def test_a_server_with_tablespaces_is_not_recovered(live: Live) -> None:
    said = refused(live.server, live)
    assert said.startswith(
        "Database server with-space has tablespaces (space), and a point-in-time restore could overwrite"
    )
    assert live.files() == live.digest and live.rows() == {"new"}


def test_nor_is_one_whose_log_makes_one(live: Live) -> None:
    said = refused(gone(live.server), live)
    assert "a tablespace was created, used or dropped after the base backup began (CREATE " in said
    assert str(live.space) in said
    assert live.files() == live.digest and live.rows() == {"new"}


@pytest.fixture
def unchecked(live: Live, monkeypatch: pytest.MonkeyPatch) -> Live:
    """Disable the checks for tablespaces, so that only the scratch server's confinement protects the live files; return
    the live server.
    """
    monkeypatch.setattr("tenants.pitr.recover_server._require_no_tablespaces", lambda server, live: None)
    monkeypatch.setattr("tenants.pitr.wal_check.LogCheck.of_folder", lambda check, folder: None)
    monkeypatch.setattr("tenants.pitr.wal_check.LogCheck.of_segment", lambda check, path, name: None)
    return live


def run_as_live(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make scratch servers run as the live server's account."""
    monkeypatch.setattr("config.stack.system_user.RECOVERY_NAME", system_user.NAME)


@pytest.mark.skipif(not system_user.needed(), reason="only root can run it as another account")
def test_account_suffices_to_protect_live_files(unchecked: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("config.stack.landlock.version", lambda: 0)
    assert "cannot be restored" in refused(unchecked.server, unchecked)
    assert unchecked.files() == unchecked.digest and unchecked.rows() == {"new"}


@pytest.mark.skipif(not landlock.version(), reason="the kernel has no Landlock")
def test_landlock_suffices_to_protect_live_files(unchecked: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    run_as_live(monkeypatch)
    assert "cannot be restored" in refused(unchecked.server, unchecked)
    assert unchecked.files() == unchecked.digest and unchecked.rows() == {"new"}


def test_a_base_backup_with_a_tablespace_is_not_unpacked(live: Live, tmp_path: Path) -> None:
    [backup] = BaseBackup.objects.filter(server=live.server)
    copy = BaseBackup(server=live.server, name=backup.name, place=str(tmp_path), server_version=18)
    shutil.copytree(Path(backup.place) / backup.name, tmp_path / backup.name, symlinks=True)
    (tmp_path / backup.name / "pg_tblspc" / "16384").symlink_to(live.space)
    with pytest.raises(BaseBackupError, match="pg_tblspc/16384 is a link or a tablespace, which could lead outside"):
        base_backup_files.unpack(copy, tmp_path / "unpacked")


def test_a_record_that_reaches_into_the_next_segment_is_found(tmp_path: Path) -> None:
    """Neither segment alone shows the record."""
    settings = "autovacuum = off\nwal_keep_size = 1GB"
    with own_server(tmp_path / "own", binaries_folder(), initdb=["--wal-segsize=1"], settings=settings) as server:
        # A long path makes a long record.
        space = server.data.parent / "space" / "a" / ("b" * 240) / ("c" * 240) / ("d" * 240)
        space.parent.mkdir(parents=True)
        _make_space(space)
        with server.as_superuser() as connection:
            connection.execute("CREATE EXTENSION pg_walinspect")
            first, second = next(filter(None, (_across_segments(connection, space) for _n in range(ATTEMPTS))))
            connection.execute("SELECT pg_switch_wal()")
        pg_wal = server.data / "pg_wal"
        for name in (first, second):
            assert LogCheck(tmp_path, 18).of_segment(pg_wal / name, name) is None
        check = LogCheck(tmp_path, 18)
        assert check.of_segment(pg_wal / first, first) is None
        found = check.of_segment(pg_wal / second, second)
        assert found is not None and found.segment == second and str(space) in found.record


def _across_segments(connection: psycopg.Connection, space: Path) -> tuple[str, str] | None:
    """Try to make a tablespace's record start in one segment and end in the next; return their names, or None."""
    connection.execute("SELECT pg_switch_wal()")
    while (left := _bytes_left(connection)) > BEFORE_RECORD:
        size = min(left - BEFORE_RECORD, 7000)
        connection.execute("SELECT pg_logical_emit_message(false, 'test', repeat('x', %s))", [size])
    [(before,)] = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchall()
    connection.execute(sql.SQL("CREATE TABLESPACE space LOCATION {}").format(str(space)))
    query = """
        SELECT pg_walfile_name(start_lsn), pg_walfile_name(end_lsn - 1)
          FROM pg_get_wal_records_info(%s::pg_lsn, pg_current_wal_insert_lsn()) WHERE resource_manager = 'Tablespace'
    """
    [(first, second)] = connection.execute(query, [before]).fetchall()
    if first != second:
        return first, second
    connection.execute("DROP TABLESPACE space")
    return None


def _bytes_left(connection: psycopg.Connection) -> int:
    """Return how many more bytes fit into the current WAL segment."""
    [(lsn,)] = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchall()
    return WAL_SEGMENT_BYTES - position(lsn) % WAL_SEGMENT_BYTES


def test_without_either_they_are_overwritten(unchecked: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """This proves that the tests above can fail. It comes last, since it damages the live server."""
    monkeypatch.setattr("config.stack.landlock.version", lambda: 0)
    run_as_live(monkeypatch)
    target = Target(time=unchecked.old)
    with (
        suppress(RecoveryError),  # it may fail on what it finds there
        recovered_server(unchecked.server, target, work=str(uuid4()), database=unchecked.database),
    ):
        pass
    assert unchecked.files() != unchecked.digest
