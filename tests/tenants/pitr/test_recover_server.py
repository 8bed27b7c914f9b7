"""A copy of a server at a point in time: exactly what was committed by then, and nothing left afterwards."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from pytest_django import Settings

from tenants.lifecycle.setup import MAIN_SERVER
from tenants.models import BaseBackup, DatabaseServer, RestorePoint
from tenants.pitr.base_backup import cluster_backup
from tenants.pitr.recover_server import RecoveryError, Target, recovered_server, recoveries_remove, require_reachable
from tenants.pitr.scratch_server import home
from tenants.servers import programs
from tenants.servers.restore_points import restore_point
from tests.support.program import seo_gen
from tests.tenants.support.archives import (
    archived_postgres,
    commit,
    connected,
    new_database,
    now,
    program,
    remains,
    rows_at,
    rows_of,
    switch,
)

# Recovers, says so, and waits to be killed.
RECOVER_AND_WAIT = """
from datetime import datetime
from tenants.models import DatabaseServer
from tenants.pitr.recover_server import Target, recovered_server
server = DatabaseServer.objects.get(pk=sys.argv[1])
target = Target(time=datetime.fromisoformat(sys.argv[2]))
with recovered_server(server, target, work=sys.argv[3], database=sys.argv[4]) as recovered:
    print(recovered.admin_url, flush=True)
    signal.pause()
"""


# Kills itself in the middle of the replay, when the server asks for a segment.
RECOVER_AND_DIE = """
from datetime import datetime
from tenants.pitr import replay
from tenants.models import DatabaseServer
from tenants.pitr.recover_server import Target, recovered_server
replay.fetch = lambda place, name, target: os.kill(os.getpid(), signal.SIGKILL)
server = DatabaseServer.objects.get(pk=sys.argv[1])
target = Target(time=datetime.fromisoformat(sys.argv[2]))
with recovered_server(server, target, work=sys.argv[3], database=sys.argv[4]):
    pass
"""


@dataclass(frozen=True)
class History:
    """What was done on a server, in this order, with times between the actions."""

    server: DatabaseServer
    database: str
    neighbour: str
    # Before the base backup, a transaction that adds the row "prepared" was prepared.
    begun: datetime
    first: datetime
    second: datetime
    # The rows were deleted.
    deleted: datetime
    # Committed the prepared transaction.
    prepared: datetime
    # Marked, then dropped the neighbour; no commit in between.
    point: RestorePoint
    before_drop: datetime
    dropped: datetime


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    with archived_postgres(tmp_path_factory.mktemp("recovery"), "archived") as server:
        yield _made_on(server)


def _made_on(server: DatabaseServer) -> History:
    begun = datetime.now(UTC)
    database, neighbour = new_database(server), new_database(server)
    commit(server, neighbour, "neighbour")
    with connected(server, database) as connection:
        connection.execute("BEGIN; INSERT INTO rows VALUES ('prepared'); PREPARE TRANSACTION 'waiting'")
        cluster_backup(server_name=server.name)
        first, second = commit(server, database, "first"), commit(server, database, "second")
        connection.execute("DELETE FROM rows")
        deleted = now(connection)
        connection.execute("COMMIT PREPARED 'waiting'")
        prepared = now(connection)
    point = restore_point(server, reason="delete")
    assert point is not None
    with connected(server) as connection:
        before_drop = now(connection)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(neighbour)))
        dropped = now(connection)
    return History(server, database, neighbour, begun, first, second, deleted, prepared, point, before_drop, dropped)


class TestTarget:
    def test_a_time_and_only_what_was_committed_by_then(self, history: History) -> None:
        assert rows_at(history.server, Target(time=history.first), history.database) == ["first"]

    def test_a_home_that_does_not_exist_is_made(self, history: History, settings: Settings, tmp_path: Path) -> None:
        """On an operator's own servers, the home might not exist yet."""
        settings.HOME = tmp_path / "not" / "there"
        require_reachable(history.server, Target(time=history.first))
        assert rows_at(history.server, Target(time=history.first), history.database) == ["first"]

    def test_before_and_after_a_deletion(self, history: History) -> None:
        assert rows_at(history.server, Target(time=history.second), history.database) == ["first", "second"]
        assert rows_at(history.server, Target(time=history.deleted), history.database) == []

    def test_a_prepared_transaction_of_the_base_backup_counts_from_its_commit(self, history: History) -> None:
        assert rows_at(history.server, Target(time=history.prepared), history.database) == ["prepared"]

    def test_the_present_with_the_last_commit(self, history: History) -> None:
        moment = commit(history.server, history.database, "just now")
        assert rows_at(history.server, Target(time=moment), history.database) == ["just now", "prepared"]

    def test_microseconds_decide(self, history: History) -> None:
        with connected(history.server, history.database) as connection:
            connection.execute("CREATE TABLE exact ()")
            query = "WITH added AS (INSERT INTO exact DEFAULT VALUES) SELECT pg_current_xact_id()::text::int8"
            [(transaction,)] = connection.execute(query).fetchall()
        target = _commit_time(history.server, transaction)
        assert self.count_at(history, target) == 1
        assert self.count_at(history, target - timedelta(microseconds=1)) == 0

    def count_at(self, history: History, moment: datetime) -> int:
        with (
            recovered_server(
                history.server, Target(time=moment), work=str(uuid4()), database=history.database
            ) as recovered,
            connected(recovered, history.database) as connection,
        ):
            return len(connection.execute("SELECT FROM exact").fetchall())

    def test_a_restore_point_holds_the_database_that_was_dropped_after_it(self, history: History) -> None:
        assert rows_at(history.server, Target(name=history.point.name), history.neighbour) == ["neighbour"]

    def test_so_does_its_time(self, history: History) -> None:
        assert rows_at(history.server, Target(time=history.point.created_at), history.neighbour) == ["neighbour"]

    def test_after_the_drop_it_is_gone(self, history: History) -> None:
        with pytest.raises(RecoveryError, match=f"the database {history.neighbour} did not exist"):
            rows_at(history.server, Target(time=history.dropped), history.neighbour)

    def test_in_the_middle_of_the_drop_its_files_are_gone(self, history: History) -> None:
        with pytest.raises(RecoveryError, match=f"the database {history.neighbour} was being dropped"):
            rows_at(history.server, Target(time=history.before_drop), history.neighbour)


def _commit_time(server: DatabaseServer, transaction: int) -> datetime:
    """Return when the transaction was committed, according to the WAL."""
    segment = switch(server)
    waldump = programs.program("pg_waldump", 18, exact=True)
    printed = programs.run([waldump, "--xid", str(transaction), f"{server.wal_archive}/{segment}"], {"TZ": "UTC"})
    return datetime.fromisoformat(printed.rsplit("COMMIT ", 1)[1][:26]).replace(tzinfo=UTC)


class TestServer:
    def test_only_pg_dump_can_read_it_and_no_one_can_write(self, history: History) -> None:
        target = Target(time=history.first)
        with recovered_server(history.server, target, work="reading", database=history.database) as recovered:
            with connected(recovered, history.database) as connection:
                [(recovers, listens, may_more)] = connection.execute(
                    "SELECT pg_is_in_recovery(), current_setting('listen_addresses'), rolsuper OR rolcreaterole"
                    " FROM pg_roles WHERE rolname = current_user"
                ).fetchall()
                assert (recovers, listens, may_more) == (False, "", False)
                with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                    connection.execute("CREATE TABLE more ()")
                connection.execute("SET default_transaction_read_only = off")
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute("CREATE TABLE more ()")
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute("COPY rows TO PROGRAM 'true'")
            for name in ("postgres", "seo_gen_owner"):
                with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry"):
                    psycopg.connect(recovered.admin_url, user=name)
            arguments, environment = programs.connection_arguments(recovered.admin_url, database=history.database)
            dumped = programs.run([programs.program("pg_dump", 18), *arguments, "--data-only"], environment)
            assert "first\n" in dumped
            sockets = (home() / "reading" / "socket").readlink()
            assert sockets.stat().st_mode & 0o077 == 0
        assert remains() == [] and not sockets.exists()

    def test_a_failure_inside_leaves_nothing(self, history: History) -> None:
        with (
            pytest.raises(ZeroDivisionError),
            recovered_server(history.server, Target(time=history.first), work=str(uuid4()), database=history.database),
        ):
            raise ZeroDivisionError
        assert remains() == []

    def test_the_live_server_may_be_gone(self, history: History) -> None:
        switch(history.server)
        gone = DatabaseServer.objects.get(pk=history.server.pk)
        gone.admin_url = "postgresql://postgres@127.0.0.1:9/postgres"
        assert rows_at(gone, Target(time=history.first), history.database) == ["first"]

    def test_its_log_may_come_by_a_command_of_another_tool(self, history: History) -> None:
        other = DatabaseServer.objects.get(pk=history.server.pk)
        other.wal_archive = ""
        other.wal_restore_command = f'test -n "%r" && test 100%% = "100%%" && ln {history.server.wal_archive}/%f "%p"'
        archive = Path(history.server.wal_archive)
        owners = {path.stat().st_uid for path in archive.iterdir()}
        assert rows_at(other, Target(time=history.first), history.database) == ["first"]
        assert {path.stat().st_uid for path in archive.iterdir()} == owners

    def test_limits_that_were_raised_after_the_base_backup_are_raised_here_too(
        self, history: History, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gone = DatabaseServer.objects.get(pk=history.server.pk)
        gone.admin_url = "postgresql://postgres@127.0.0.1:9/postgres"
        lower = {"max_connections": 20, "max_prepared_transactions": 1, "max_worker_processes": 8}
        monkeypatch.setattr("tenants.pitr.recover_server.limits", lambda folder, version: lower)
        assert rows_at(gone, Target(time=history.first), history.database) == ["first"]


class TestRefused:
    def refuse(self, server: DatabaseServer, target: Target) -> str:
        with (
            pytest.raises(RecoveryError) as refused,
            recovered_server(server, target, work=str(uuid4()), database="postgres"),
        ):
            pass
        assert remains() == []
        return str(refused.value)

    def test_a_time_before_the_earliest_base_backup(self, history: History) -> None:
        said = self.refuse(history.server, Target(time=history.begun))
        assert "is before the earliest base backup of database server archived, which finished at 2" in said

    def test_the_future(self, history: History) -> None:
        said = self.refuse(history.server, Target(time=datetime.now(UTC) + timedelta(hours=1)))
        assert "is in the future" in said

    def test_an_unknown_restore_point(self, history: History) -> None:
        said = self.refuse(history.server, Target(name="nothing"))
        assert said == "Database server archived has no restore point 'nothing'."

    def test_a_server_without_base_backups(self) -> None:
        said = self.refuse(DatabaseServer.objects.get(pk=MAIN_SERVER), Target(time=datetime.now(UTC)))
        assert said.startswith("Database server main has no base backup to restore from.")

    def test_a_disk_without_room(self, history: History) -> None:
        backups = BaseBackup.objects.filter(server=history.server)
        size = backups.get().size_bytes
        backups.update(size_bytes=2**60)
        try:
            said = self.refuse(history.server, Target(time=history.first))
        finally:
            backups.update(size_bytes=size)
        assert f"Restoring from base backup {backups.get().name} needs 1099511627776 MiB in " in said

    def test_a_segment_that_is_missing_in_the_middle_is_named(self, history: History) -> None:
        lost = Path(history.server.wal_archive) / switch(history.server)
        switch(history.server)
        moment = commit(history.server, history.database, "behind the gap")
        aside = lost.with_suffix(".aside")
        lost.rename(aside)
        try:
            said = self.refuse(history.server, Target(time=moment))
        finally:
            aside.rename(lost)
        assert f"segment {lost.name} is missing from its WAL archive (last commit before it: 2" in said


def test_what_a_killed_recovery_left_is_removed_when_it_is_dead(history: History) -> None:
    work = str(uuid4())
    with program(
        RECOVER_AND_WAIT, history.server.name, history.first.isoformat(), work, history.database
    ) as recovering:
        assert recovering.stdout is not None and recovering.stderr is not None
        url = recovering.stdout.readline().strip()
        assert url, recovering.stderr.read()
        assert recoveries_remove() == [], "it lives"
        recovering.kill()
        recovering.wait()
    left_running = DatabaseServer(name="left", admin_url=url)
    assert rows_of(left_running, history.database) == ["first"]
    assert recoveries_remove(str(uuid4())) == []
    assert recoveries_remove(work) == [work]
    assert remains() == [] and recoveries_remove() == []
    with pytest.raises(psycopg.OperationalError):
        connected(left_running, history.database)


def test_what_was_killed_while_it_replayed_is_removed_too(history: History) -> None:
    work = str(uuid4())
    with program(RECOVER_AND_DIE, history.server.name, history.first.isoformat(), work, history.database) as dying:
        assert dying.wait() == -signal.SIGKILL, dying.stderr
    assert len(remains()) > 1, "its server waits for the log"
    done = seo_gen("tenant", "recover")
    assert done.returncode == 0, done.stderr
    assert remains() == []
