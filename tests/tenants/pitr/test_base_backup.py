"""Base backups of a whole server: made, incremental, interrupted and removed; and WAL that is received."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from audit.control.models import ControlAuditLog
from config.stack import process
from tenants.files.locations import PlaceError, place_at
from tenants.lifecycle.setup import MAIN_SERVER, server_register
from tenants.models import BackupStatus, BaseBackup, DatabaseServer, RestorePoint
from tenants.pitr import base_backup, base_backup_files
from tenants.pitr.base_backup import cluster_backup, cluster_backups_recover
from tenants.pitr.base_backup_files import BaseBackupError
from tenants.pitr.prune import cluster_backups_prune
from tenants.pitr.receive_wal import cluster_receive_wal
from tenants.pitr.recover_server import Target
from tenants.pitr.wal_archive import wal_archive_read
from tenants.retention.prune import backup_prune
from tenants.servers.restore_points import restore_point
from tests.support.program import seo_gen
from tests.support.s3 import S3Server
from tests.tenants.support.archives import (
    archived_postgres,
    commit,
    connected,
    forget,
    new_database,
    program,
    rows_at,
    switch,
)

# Kills itself at the step named by its third argument.
BACK_UP_AND_DIE = """
from tenants.pitr.base_backup import cluster_backup
def die(progress):
    if progress.step == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)
cluster_backup(server_name=sys.argv[1], output=sys.argv[2], on_progress=die)
"""
KEEP_FILES = """
from tenants.pitr.base_backup_files import files_kept
from tenants.models import DatabaseServer
with files_kept(DatabaseServer.objects.get(pk=sys.argv[1])):
    print("kept", flush=True)
    signal.pause()
"""
RECEIVE = """
from tenants.pitr.receive_wal import cluster_receive_wal
cluster_receive_wal(server_name=sys.argv[1], output=sys.argv[2], on_start=lambda folder: print(folder, flush=True))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatabaseServer]:
    with archived_postgres(tmp_path_factory.mktemp("backups"), "backed-up") as server:
        yield server


@pytest.fixture
def unknown(server: DatabaseServer) -> None:
    """Delete the records of the server's earlier base backups."""
    BaseBackup.objects.filter(server=server).exclude(parent=None).delete()
    BaseBackup.objects.filter(server=server).delete()


@pytest.fixture
def database(server: DatabaseServer, unknown: None) -> Iterator[str]:
    """Yield the name of a new database; drop it afterwards, since each database makes every base backup slower."""
    name = new_database(server)
    yield name
    with connected(server) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def actions_of(backup: BaseBackup) -> list[str]:
    entries = ControlAuditLog.objects.filter(resource_id=str(backup.pk)).order_by("sequence")
    return [entry.action for entry in entries]


def folder_of(backup: BaseBackup) -> Path:
    return Path(backup.place) / backup.name


@pytest.mark.usefixtures("unknown")
class TestBackup:
    def test_it_is_whole_and_recorded(self, server: DatabaseServer, tmp_path: Path) -> None:
        backup = cluster_backup(server_name="backed-up", output=str(tmp_path))
        assert [path.name for path in tmp_path.iterdir()] == [backup.name]
        assert folder_of(backup).stat().st_mode & 0o077 == 0
        assert (backup.status, backup.server_version, backup.timeline) == (BackupStatus.COMPLETED, 18, 1)
        assert backup.start_lsn and backup.stop_lsn and backup.system_identifier and backup.verified_at
        assert backup.finished_at is not None and backup.finished_at > backup.started_at - timedelta(seconds=1)
        assert actions_of(backup) == ["cluster.backup", "cluster.backup.complete"]

    def test_a_failure_leaves_only_its_record(self, server: DatabaseServer, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(PlaceError, match="cannot be written"):
            cluster_backup(server_name="backed-up", output=str(tmp_path / "file"))
        [backup] = BaseBackup.objects.filter(server=server)
        assert backup.status == BackupStatus.FAILED and "cannot be written" in backup.error
        assert actions_of(backup) == ["cluster.backup", "cluster.backup.fail"]

    @pytest.mark.parametrize(
        ("failure", "reason"),
        [
            (KeyboardInterrupt(), "It was interrupted."),
            (OSError(28, "No space left on device"), "The disk or a file cannot be used: No space left on device."),
            (ZeroDivisionError("a secret"), "Unexpected error (ZeroDivisionError)."),
        ],
    )
    def test_an_unexpected_failure_is_recorded_as_a_sentence(
        self,
        server: DatabaseServer,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        failure: BaseException,
        reason: str,
    ) -> None:
        def fail(_backup: BaseBackup, _target: Path) -> None:
            raise failure

        monkeypatch.setattr(base_backup, "_copy", fail)
        with pytest.raises(type(failure)):
            cluster_backup(server_name=server.name, output=str(tmp_path))
        [backup] = BaseBackup.objects.filter(server=server)
        assert (backup.status, backup.error) == (BackupStatus.FAILED, reason)

    def test_the_command_says_where_it_is(self, tmp_path: Path) -> None:
        done = seo_gen("cluster", "backup", "--server", "backed-up", "--output", str(tmp_path))
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"Base backup of backed-up: {tmp_path}/base-backed-up-2")


class TestIncremental:
    def test_it_is_smaller_and_recovers_with_what_it_continues(
        self, server: DatabaseServer, database: str, tmp_path: Path
    ) -> None:
        commit(server, database, "in the first")
        full = cluster_backup(server_name=server.name, output=str(tmp_path))
        commit(server, database, "in the second")
        second = cluster_backup(server_name=server.name, output=str(tmp_path), incremental=True)
        moment = commit(server, database, "in the log")
        assert second.parent == full and (second.size_bytes or 0) < (full.size_bytes or 0)
        assert rows_at(server, Target(time=moment), database) == ["in the first", "in the log", "in the second"]

    @pytest.mark.usefixtures("unknown")
    def test_without_one_to_continue_it_is_refused(self, server: DatabaseServer) -> None:
        with pytest.raises(BaseBackupError, match="has no base backup that an incremental one could build on"):
            cluster_backup(server_name=server.name, incremental=True)

    def test_without_summaries_it_is_refused(self) -> None:
        with pytest.raises(BaseBackupError, match=r"main does not summarize its WAL \(summarize_wal is off\)"):
            cluster_backup(server_name=MAIN_SERVER, incremental=True)


def test_base_backup_and_log_in_a_bucket(
    server: DatabaseServer, database: str, s3_server: S3Server, settings: Any
) -> None:
    for name, value in s3_server.environment().items():
        setattr(settings, name, value)
    settings.AWS_ACCESS_KEY_ID, settings.AWS_SECRET_ACCESS_KEY = s3_server.access_key, s3_server.secret_key
    url = f"s3://{s3_server.bucket}/{uuid4()}"
    backup = cluster_backup(server_name=server.name, output=f"{url}/base")
    moment = commit(server, database, "in the log")
    archived, last = place_at(f"{url}/wal"), switch(server)
    archive = wal_archive_read(place_at(server.wal_archive))
    for segment in archive.segments:
        if segment.number >= archive.number_of(backup.start_lsn) and segment.name <= last:
            archived.write(segment.name, (Path(server.wal_archive) / segment.name).read_bytes())
    elsewhere = DatabaseServer.objects.get(pk=server.pk)
    elsewhere.wal_archive = archived.url
    assert rows_at(elsewhere, Target(time=moment), database) == ["in the log"]
    base_backup_files.remove(backup)
    assert list(place_at(backup.place).names()) == []


@pytest.mark.parametrize("step", ["verify", "completed"])
def test_what_a_killed_backup_left_is_removed(server: DatabaseServer, unknown: None, tmp_path: Path, step: str) -> None:
    with program(BACK_UP_AND_DIE, server.name, str(tmp_path), step) as dying:
        assert dying.wait() == -signal.SIGKILL, dying.stderr
    [backup] = BaseBackup.objects.filter(server=server)
    assert backup.status == BackupStatus.RUNNING
    assert cluster_backups_recover() == [backup] and cluster_backups_recover() == []
    backup.refresh_from_db()
    assert (backup.status, backup.error) == (BackupStatus.FAILED, "The base backup was interrupted.")
    assert list(tmp_path.iterdir()) == []


def test_files_that_cannot_be_removed_do_not_end_the_recovery(
    server: DatabaseServer, unknown: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, other = (
        BaseBackup.objects.create(
            id=uuid4(), server=server, status=BackupStatus.RUNNING, place=str(tmp_path), name=name, server_version=18
        )
        for name in ("stuck", "other")
    )

    def remove(backup: BaseBackup) -> None:
        if backup == stuck:
            raise PermissionError

    monkeypatch.setattr(base_backup, "remove", remove)
    assert cluster_backups_recover() == [other]
    stuck.refresh_from_db()
    assert stuck.status == BackupStatus.RUNNING


def test_a_copying_that_outlived_its_process_is_ended(server: DatabaseServer, unknown: None, tmp_path: Path) -> None:
    with connected(server) as connection:
        with program(BACK_UP_AND_DIE, server.name, str(tmp_path), "never") as dying:
            assert process.wait_until(lambda: copying(connection), 30)
            dying.kill()
            dying.wait()
        assert cluster_backups_recover() == list(BaseBackup.objects.filter(server=server))
        assert process.wait_until(lambda: not copying(connection), 30)
    assert [backup.status for backup in BaseBackup.objects.filter(server=server)] == [BackupStatus.FAILED]
    assert list(tmp_path.iterdir()) == []


def copying(connection: psycopg.Connection) -> bool:
    query = "SELECT FROM pg_stat_activity WHERE application_name LIKE '%base backup%'"
    return bool(connection.execute(query).fetchall())


class TestPrune:
    def age(self, backup: BaseBackup) -> BaseBackup:
        BaseBackup.objects.filter(pk=backup.pk).update(finished_at=datetime.now(UTC) - timedelta(days=30))
        return backup

    @pytest.mark.usefixtures("unknown")
    def test_expired_backups_and_wal_are_removed_unless_needed(self, server: DatabaseServer, tmp_path: Path) -> None:
        segment = switch(server)
        old = self.age(cluster_backup(server_name=server.name, output=str(tmp_path)))
        continued = self.age(cluster_backup(server_name=server.name, output=str(tmp_path)))
        newest = cluster_backup(server_name=server.name, output=str(tmp_path), incremental=True)
        points = [restore_point(server, reason="delete") for _ in range(2)]
        assert points[0] and points[1]
        RestorePoint.objects.filter(pk=points[0].pk).update(created_at=datetime.now(UTC) - timedelta(days=31))
        assert newest.parent == continued
        [pruned] = [pruned for pruned in cluster_backups_prune() if pruned.server == server.name]
        assert pruned.backups == [old.name] and pruned.wal_segments > 0
        assert {path.name for path in tmp_path.iterdir()} == {continued.name, newest.name}
        assert not (Path(server.wal_archive) / segment).exists()
        assert list(RestorePoint.objects.filter(server=server)) == points[1:]
        assert actions_of(old)[-1] == "cluster.backup.remove"
        assert ControlAuditLog.objects.latest("sequence").action == "cluster.wal.remove"
        self.age(newest)
        [pruned] = [pruned for pruned in cluster_backups_prune() if pruned.server == server.name]
        assert (pruned.backups, pruned.wal_segments) == ([], 0), "the newest stays, however old"

    @pytest.mark.usefixtures("unknown")
    def test_without_base_backups_log_past_its_retention_goes(self, server: DatabaseServer) -> None:
        old, young = (Path(server.wal_archive) / switch(server) for _ in range(2))
        os.utime(old, (0, 0))
        for path in Path(server.wal_archive).iterdir():
            if path.name < old.name:
                os.utime(path, (0, 0))
        [pruned] = [pruned for pruned in cluster_backups_prune() if pruned.server == server.name]
        assert pruned.wal_segments > 0 and not old.exists() and young.exists()

    @pytest.mark.usefixtures("unknown")
    def test_files_that_cannot_be_removed_are_reported(
        self, server: DatabaseServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The base backup stays recorded as completed, and the next pruning removes it."""
        stuck = self.age(cluster_backup(server_name=server.name, output=str(tmp_path)))
        cluster_backup(server_name=server.name, output=str(tmp_path))

        def refuse(path: Path) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        with monkeypatch.context() as patch:
            patch.setattr(shutil, "rmtree", refuse)
            [found] = [one for one in backup_prune() if one.problem]
        reason = f"Files of database server {server.name} cannot be removed: Permission denied."
        assert (found.what, found.problem) == (f"{server.name}/…", reason)
        stuck.refresh_from_db()
        assert stuck.status == BackupStatus.COMPLETED
        assert [one.what for one in backup_prune() if one.kind == "base backup"] == [f"{server.name}/{stuck.name}"]
        stuck.refresh_from_db()
        assert stuck.status == BackupStatus.REMOVED

    @pytest.mark.usefixtures("unknown")
    def test_files_that_a_restore_reads_are_kept(self, server: DatabaseServer, tmp_path: Path) -> None:
        with program(KEEP_FILES, server.name) as reading:
            assert reading.stdout is not None and reading.stdout.readline() == "kept\n"
            assert server.name not in [pruned.server for pruned in cluster_backups_prune()]


@pytest.fixture
def received(server: DatabaseServer) -> Iterator[DatabaseServer]:
    """Yield the same server, registered under another name and without a WAL archive; drop its replication slot
    afterwards.
    """
    other = server_register(name="received", admin_url=server.admin_url)
    yield other
    with connected(server) as connection:
        connection.execute("SELECT pg_drop_replication_slot('seo_gen_wal')")
    forget(other)


def test_the_log_of_a_server_is_received_and_recovered_from(
    received: DatabaseServer, database: str, tmp_path: Path
) -> None:
    folder = str(tmp_path / "wal")
    with program(RECEIVE, received.name, folder) as receiving:
        assert receiving.stdout is not None and receiving.stderr is not None
        assert receiving.stdout.readline().strip() == folder, receiving.stderr.read()
        received.refresh_from_db()
        assert received.wal_archive == folder
        cluster_backup(server_name=received.name, output=str(tmp_path / "base"))
        moment = commit(received, database, "received")
        assert rows_at(received, Target(time=moment), database) == ["received"]
        receiving.send_signal(signal.SIGTERM)
        assert receiving.wait() == 0
    with pytest.raises(PlaceError, match="lacks a bucket"):
        cluster_receive_wal(server_name=received.name, output="s3://")
