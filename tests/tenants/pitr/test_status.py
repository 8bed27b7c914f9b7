"""Which times a server can be restored to, and what prevents a restore."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.stack import process
from tenants.lifecycle.setup import MAIN_SERVER
from tenants.models import BaseBackup, DatabaseServer, database_prefix
from tenants.pitr.base_backup import cluster_backup
from tenants.pitr.status import ClusterHealth, cluster_statuses
from tenants.servers.session import ServerSession
from tests.support.program import seo_gen
from tests.tenants.support.archives import archived_postgres, commit, new_database, switch


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatabaseServer]:
    with archived_postgres(tmp_path_factory.mktemp("status"), "watched") as server:
        cluster_backup(server_name=server.name, output=str(tmp_path_factory.mktemp("base")))
        yield server


def health(server: DatabaseServer) -> ClusterHealth:
    [found] = cluster_statuses(server_name=server.name)
    return found


def test_all_times_from_the_base_backup_to_now(server: DatabaseServer) -> None:
    moment = commit(server, new_database(server), "a row")
    switch(server)
    found = health(server)
    [backup] = BaseBackup.objects.filter(server=server)
    assert found.earliest == backup.finished_at
    assert found.latest is not None and found.latest > moment
    assert found.archiving and found.reachable and found.problems == []


def test_restores_to_the_last_archived_commit_if_the_server_is_gone(server: DatabaseServer) -> None:
    moment = commit(server, new_database(server), "a row")
    switch(server)
    url, server.admin_url = server.admin_url, "postgresql://postgres@127.0.0.1:9/postgres"
    server.save()
    found = health(server)
    server.admin_url = url
    server.save()
    assert found.latest is not None and found.latest >= moment
    assert not found.reachable and found.archiving is None
    [problem] = found.problems
    assert problem.startswith("Database server watched cannot be reached")


def test_gap_in_the_archive_is_reported_and_limits_the_range(server: DatabaseServer) -> None:
    lost = Path(server.wal_archive) / switch(server)
    switch(server)
    aside = lost.with_suffix(".aside")
    lost.rename(aside)
    found = health(server)
    aside.rename(lost)
    [backup] = BaseBackup.objects.filter(server=server)
    assert found.earliest is None and found.latest is None
    assert found.base_backups[0].missing_wal == [lost.name]
    assert found.problems == [
        f"After base backup {backup.name}, 1 segment is missing from the WAL archive: {lost.name}."
    ]


def test_failing_archiver_is_reported(server: DatabaseServer) -> None:
    archive = Path(server.wal_archive)
    owner = archive.stat()
    os.chown(archive, os.geteuid(), os.getegid())
    archive.chmod(0 if os.geteuid() else 0o700)
    with ServerSession(server, database_prefix()) as server_session:
        server_session.heartbeat()
        segment = server_session.switch_wal()
        assert process.wait_until(lambda: server_session.archiver().failing is not None, 60)
    archive.chmod(0o700)
    found = health(server)
    os.chown(archive, owner.st_uid, owner.st_gid)
    [problem] = found.problems
    assert problem.startswith(f"WAL file {segment} could not be archived (last attempt: ")
    assert found.archiving is False


@pytest.mark.usefixtures("server")
def test_the_command_exits_with_1_and_one_sentence_each() -> None:
    done = seo_gen("cluster", "status", "--json")
    assert done.returncode == 1 and done.stdout, done.stderr
    assert {document["server"] for document in json.loads(done.stdout)} >= {MAIN_SERVER, "watched"}
    assert "main: It has no base backup." in done.stderr
