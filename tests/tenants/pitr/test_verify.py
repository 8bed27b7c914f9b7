"""Base backups and archived WAL that changed after they were written are reported; intact ones count as verified."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings as django_settings

from audit.control.models import ControlAuditLog
from tenants.files.locations import place_at
from tenants.models import BaseBackup, DatabaseServer
from tenants.pitr import verify as module
from tenants.pitr.base_backup import cluster_backup
from tenants.pitr.prune import cluster_backups_prune
from tenants.pitr.verify import Verified, cluster_verify
from tenants.pitr.wal_archive import Segment, wal_archive_read
from tests.support.program import seo_gen
from tests.support.s3 import S3Server
from tests.tenants.support.archives import archived_postgres, connected, program, switch

NAME = "verified"
VERIFY_AND_WAIT = """
from tenants.pitr.verify import cluster_verify
cluster_verify(server_name=sys.argv[1], on_progress=lambda progress: (print("begun", flush=True), signal.pause()))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[BaseBackup, Path]]:
    """Yield a base backup and the folder with the WAL since: small records across segment boundaries, and one longer
    than a segment.
    """
    emit = "SELECT pg_logical_emit_message(true, 'test', repeat('x', %s)) FROM generate_series(1, %s)"
    with archived_postgres(tmp_path_factory.mktemp("verify"), NAME) as server:
        backup = cluster_backup(server_name=NAME, output=str(tmp_path_factory.mktemp("base")))
        with connected(server) as connection:
            for size, count in ((200_000, 250), (20 * 2**20, 1), (200_000, 50)):
                connection.execute(emit, [size, count])
        switch(server)
        yield backup, Path(server.wal_archive)


@pytest.fixture
def backup(made: tuple[BaseBackup, Path], tmp_path: Path) -> BaseBackup:
    """Return the server's only base backup, now at a copy that a test may damage; the WAL archive is a copy, too."""
    original, archive = made
    backup = BaseBackup.objects.get(pk=original.pk)
    backup.place = str(tmp_path / "base")
    backup.save()
    shutil.copytree(files_of(original), files_of(backup))
    (tmp_path / "wal").mkdir()
    read = wal_archive_read(place_at(str(archive)))
    for segment in read.segments:
        if segment.number >= read.number_of(backup.start_lsn):
            shutil.copy(archive / segment.name, tmp_path / "wal")
    DatabaseServer.objects.filter(pk=NAME).update(wal_archive=str(tmp_path / "wal"))
    return backup


@pytest.fixture
def segments(backup: BaseBackup, tmp_path: Path) -> list[Path]:
    """Return the archived segments that the base backup needs, oldest first."""
    return sorted((tmp_path / "wal").iterdir())


def files_of(backup: BaseBackup) -> Path:
    return Path(backup.place) / backup.name


def overwrite(path: Path, position: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        file.write(content)


def damaged_segments() -> list[str]:
    """Return the segments that the newest audit entry names as damaged."""
    entry = ControlAuditLog.objects.filter(action="cluster.wal.verify").latest("sequence")
    assert entry.details is not None
    return list(entry.details["damaged"])


def test_whole_ones_are_marked(backup: BaseBackup, segments: list[Path]) -> None:
    BaseBackup.objects.filter(pk=backup.pk).update(verified_at=None)
    assert cluster_verify(server_name=NAME) == [
        Verified(NAME, "base backup", str(files_of(backup)), ""),
        Verified(NAME, "WAL archive", str(segments[0].parent), ""),
    ]
    backup.refresh_from_db()
    assert backup.verified_at is not None
    of_log, of_backup = ControlAuditLog.objects.order_by("-sequence")[:2]
    assert (of_backup.action, of_backup.resource_id) == ("cluster.backup.verify", str(backup.pk))
    assert of_backup.details == {"server": NAME, "whole": True}
    assert (of_log.action, of_log.resource_id) == ("cluster.wal.verify", NAME)
    assert of_log.details == {"segments": len(segments), "damaged": [], "whole": True}


@pytest.mark.parametrize("damage", ["changed", "missing", "its log", "its manifest", "all of it"])
def test_a_damaged_base_backup_is_found(backup: BaseBackup, damage: str) -> None:
    verified_at, folder = backup.verified_at, files_of(backup)
    [own_log] = [path for path in (folder / "pg_wal").iterdir() if len(path.name) == 24]
    # Where the backup's part of the log begins.
    within = int(backup.start_lsn.split("/")[1], 16) % own_log.stat().st_size
    expected = {
        "changed": "pg_filenode.map",
        "missing": "pg_filenode.map",
        "its log": "could not find a valid record",
        "its manifest": "manifest",
        "all of it": "is missing or incomplete",
    }[damage]
    if damage == "changed":
        overwrite(folder / "global" / "pg_filenode.map", 0, b"?")
    elif damage == "missing":
        (folder / "global" / "pg_filenode.map").unlink()
    elif damage == "its log":
        overwrite(own_log, within, b"?" * 100)
    elif damage == "its manifest":
        overwrite(folder / "backup_manifest", 200, b"?")
    else:
        folder.rename(folder.with_name("elsewhere"))
    of_backup, of_log = cluster_verify(server_name=NAME)
    assert expected in of_backup.problem
    assert of_log.problem == ""
    backup.refresh_from_db()
    assert backup.verified_at == verified_at
    entry = ControlAuditLog.objects.filter(resource_id=str(backup.pk)).latest("sequence")
    assert entry.details == {"server": NAME, "whole": False}


def test_a_damaged_record_of_the_log_is_found(segments: list[Path]) -> None:
    overwrite(segments[1], 8_000_000, b"?" * 10)
    of_backup, of_log = cluster_verify(server_name=NAME)
    assert of_backup.problem == ""
    begins = f"Damaged segments: 1 of {len(segments)}; the first is {segments[1].name}: pg_waldump failed: "
    assert of_log.problem.startswith(begins) and "incorrect resource manager data checksum" in of_log.problem
    assert damaged_segments() == [segments[1].name]


@pytest.mark.parametrize("content", [bytes(8192), b""], ids=["header", "empty"])
def test_a_segment_that_cannot_be_read_at_all_is_found(segments: list[Path], content: bytes) -> None:
    """A record that starts in the segment before it cannot be read either, so that segment may be named too."""
    if content:
        overwrite(segments[2], 0, content)
    else:
        segments[2].write_bytes(content)
    cluster_verify(server_name=NAME)
    found = damaged_segments()
    assert segments[2].name in found and set(found) <= {segments[1].name, segments[2].name}


def test_every_damaged_segment_is_named(segments: list[Path]) -> None:
    for path in (segments[0], segments[2], segments[-1]):
        path.write_bytes(path.read_bytes()[:8192])
    [_of_backup, of_log] = cluster_verify(server_name=NAME)
    assert of_log.problem.startswith("Damaged segments: 3 of")
    assert damaged_segments() == [segments[0].name, segments[2].name, segments[-1].name]


def test_records_across_the_borders_of_windows_are_no_damage(
    backup: BaseBackup, segments: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in (2, 3):
        monkeypatch.setattr(module, "WINDOW", size)
        assert [one.problem for one in cluster_verify(server_name=NAME)] == ["", ""]
    monkeypatch.setattr(module, "WINDOW", 3)
    # The end of a record that begins in the last segment of a window.
    overwrite(segments[3], 9000, b"?" * 10)
    cluster_verify(server_name=NAME)
    assert damaged_segments() == [segments[2].name]


@pytest.mark.parametrize(
    ("numbers", "windows"),
    [
        ([], []),
        ([1], [[1]]),
        ([1, 2, 3], [[1, 2, 3]]),
        ([1, 2, 3, 4], [[1, 2, 3], [3, 4]]),
        ([1, 2, 3, 4, 5], [[1, 2, 3], [3, 4, 5]]),
        ([1, 3, 4], [[1], [3, 4]]),
    ],
)
def test_windows_overlap_by_a_segment_and_leap_no_gap(
    numbers: list[int], windows: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WINDOW", 3)
    segments = [Segment(number, 1, str(number)) for number in numbers]
    assert [[one.number for one in window] for window in module._windows(segments)] == windows


def test_what_lies_in_a_bucket_is_fetched(
    backup: BaseBackup, segments: list[Path], s3_server: S3Server, settings: Any
) -> None:
    for name, value in s3_server.environment().items():
        setattr(settings, name, value)
    settings.AWS_ACCESS_KEY_ID, settings.AWS_SECRET_ACCESS_KEY = s3_server.access_key, s3_server.secret_key
    url = f"s3://{s3_server.bucket}/{uuid4()}"
    stored = cluster_backup(server_name=NAME, output=f"{url}/base")
    archived = place_at(f"{url}/wal")
    for path in segments:
        archived.write(path.name, path.read_bytes())
    DatabaseServer.objects.filter(pk=NAME).update(wal_archive=archived.url)
    try:
        assert [one.problem for one in cluster_verify(server_name=NAME)] == ["", "", ""]
        archived.write(segments[1].name, bytes(segments[1].stat().st_size))
        place_at(stored.place).write(f"{stored.name}/base.tar", b"no tar")
        of_folder, of_bucket, of_log = cluster_verify(server_name=NAME)
    finally:
        stored.delete()
    assert of_folder.problem == "" and of_log.path == archived.url
    assert "cannot be unpacked" in of_bucket.problem and segments[1].name in damaged_segments()
    assert list((settings.HOME / "base-backups").glob(".verify-*")) == []


def test_nothing_is_removed_meanwhile_but_backups_go_on(backup: BaseBackup) -> None:
    with program(VERIFY_AND_WAIT, NAME) as verifying:
        assert verifying.stdout is not None and verifying.stdout.readline() == "begun\n"
        assert NAME not in [pruned.server for pruned in cluster_backups_prune()]
        cluster_backup(server_name=NAME, output=backup.place).delete()


def test_copies_of_a_killed_process_are_removed_by_the_next_run(backup: BaseBackup) -> None:
    left = django_settings.HOME / "base-backups" / ".verify-left"
    left.mkdir(parents=True)
    with program(VERIFY_AND_WAIT, NAME) as verifying:
        assert verifying.stdout is not None and verifying.stdout.readline() == "begun\n"
        assert not left.exists()
        left.mkdir()
        cluster_verify(server_name=NAME)
        assert left.exists(), "it might be the other's"
    cluster_verify(server_name=NAME)
    assert not left.exists()


def test_command_names_damaged_files_and_exits_1(backup: BaseBackup, segments: list[Path]) -> None:
    done = seo_gen("cluster", "verify", "--server", NAME)
    assert (done.returncode, done.stdout.count("intact")) == (0, 2), done.stderr
    overwrite(segments[1], 8_000_000, b"?" * 10)
    done = seo_gen("cluster", "verify", "--server", NAME, "--json")
    assert done.returncode == 1
    assert f"Verification failed: {segments[0].parent}." in done.stderr
    of_backup, of_log = json.loads(done.stdout)
    assert of_backup == {"server": NAME, "kind": "base backup", "path": str(files_of(backup)), "problem": ""}
    assert of_log["kind"] == "WAL archive" and "pg_waldump failed" in of_log["problem"]
