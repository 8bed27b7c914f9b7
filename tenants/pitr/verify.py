"""Read base backups and archived WAL as a restore would, since files can be damaged or lost after being written."""

from __future__ import annotations

import fcntl
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from audit.log.entries import record
from config.base.databases import CONTROL
from config.base.errors import SeoGenError
from tenants.files.locations import FOLDER_MODE, Folder, Place, place_at
from tenants.models import BaseBackup, DatabaseServer
from tenants.pitr.base_backup_files import completed, files_kept, readable, verify
from tenants.pitr.wal_archive import Archive, Segment, fetch, lsn_at, position, wal_archive_read
from tenants.selectors import server_get
from tenants.servers import programs
from tenants.types import OnProgress, Progress, ignore_progress

# How many segments pg_waldump reads at a time. Segments in a bucket are first copied to disk: 1 GiB at 16 MiB each.
WINDOW = 64
COPY_PREFIX = ".verify-"
# Where pg_waldump stopped: at a file that it could not read at all, or at the position of a record.
IN_FILE = re.compile(r'file "([0-9A-F]{24})"')
AT_POSITION = re.compile(r"(?:at|after) ([0-9A-F]+/[0-9A-F]+)")


@dataclass(frozen=True)
class Verified:
    """The result for one base backup, or for a server's WAL archive."""

    server: str
    # "base backup" or "WAL archive".
    kind: str
    path: str
    # One sentence; "" if the base backup or archive is intact.
    problem: str


def cluster_verify(*, server_name: str | None = None, on_progress: OnProgress = ignore_progress) -> list[Verified]:
    """Verify all base backups of the server (default: the default one) and the WAL that they need; return the results.

    Each base backup's files are compared with their checksums, and its own WAL is read; intact backups are marked as
    verified. Then the archived WAL is read, starting at the oldest base backup. Missing segments are not reported here
    but by `cluster_statuses`, and an archive managed by another tool is left to that tool. Files in a bucket are
    fetched first.
    Raises `ServerError` if there is no such server, `BaseBackupError` if files are being removed.
    """
    server = server_get(server_name)
    with _room_for_copies(), files_kept(server):
        found = []
        for backup in completed(server):
            on_progress(Progress(server.name, backup.name))
            found.append(_verify_backup(backup))
        oldest = completed(server).first()
        if oldest is not None and server.wal_archive:
            on_progress(Progress(server.name, server.wal_archive))
            found.append(_verify_archive(server, oldest))
        return found


def _verify_backup(backup: BaseBackup) -> Verified:
    problem = ""
    with _scratch() as folder:
        try:
            assert backup.server_version is not None  # it is completed
            verify(readable(backup, folder / backup.name), backup.server_version)
        except SeoGenError as error:
            problem = str(error.message)
    with transaction.atomic(using=CONTROL):
        if not problem:
            BaseBackup.objects.using(CONTROL).filter(pk=backup.pk).update(verified_at=Now())
        record(
            using=CONTROL,
            action="cluster.backup.verify",
            resource_type="base_backup",
            resource_id=str(backup.pk),
            details={"server": backup.server_id, "whole": not problem},
        )
    return Verified(backup.server_id, "base backup", place_at(backup.place).path(backup.name), problem)


def _verify_archive(server: DatabaseServer, oldest: BaseBackup) -> Verified:
    assert oldest.server_version is not None  # it is completed
    problem, count = "", 0
    damaged: dict[str, str] = {}
    try:
        place = place_at(server.wal_archive)
        archive = wal_archive_read(place)
        needed = [one for one in archive.segments if one.number >= archive.number_of(oldest.start_lsn)]
        count = len(needed)
        damaged = _damaged(place, archive, needed, oldest.server_version)
    except SeoGenError as error:
        problem = str(error.message)
    if damaged:
        name = min(damaged)
        problem = _("Damaged segments: %(count)d of %(total)d; the first is %(name)s: %(reason)s") % {
            "count": len(damaged),
            "total": count,
            "name": name,
            "reason": damaged[name],
        }
    with transaction.atomic(using=CONTROL):
        record(
            using=CONTROL,
            action="cluster.wal.verify",
            resource_type="database_server",
            resource_id=server.name,
            details={"segments": count, "damaged": sorted(damaged), "whole": not problem},
        )
    return Verified(server.name, "WAL archive", server.wal_archive, problem)


def _damaged(place: Place, archive: Archive, segments: Sequence[Segment], version: int) -> dict[str, str]:
    """Return {segment: problem} for segments of the wrong size, or that pg_waldump cannot read completely.

    Raises `PlaceError`, or `ToolError` if pg_waldump is not installed.
    """
    waldump = programs.program("pg_waldump", version, exact=True)
    found: dict[str, str] = {}
    for window in _windows(segments):
        with _scratch() as folder:
            for segment in window:
                if isinstance(place, Folder):
                    (folder / segment.name).symlink_to(Path(place.url) / segment.name)
                else:
                    fetch(place, segment.name, folder / segment.name)
            found |= _wrong_size(folder, archive.segment_bytes)
            waiting = [window]
            while waiting:
                part = waiting.pop()
                complaint = _read(waldump, folder, part, archive.segment_bytes) if part else ""
                if complaint:
                    index = _index(complaint, part, archive)
                    found.setdefault(part[index].name, complaint)
                    # If a file has no usable header, nothing was read; otherwise, everything before it was.
                    waiting += [part[index + 1 :], *([part[:index]] if IN_FILE.search(complaint) else [])]
                    (folder / part[index].name).unlink(missing_ok=True)
    return found


def _wrong_size(folder: Path, segment_bytes: int) -> dict[str, str]:
    """Return {segment: problem} for segments of the wrong size, which recovery rejects.

    Their links or copies are removed from `folder`. pg_waldump would not notice the wrong size, since it only reads up
    to a segment's last record.
    """
    found = {}
    for path in folder.iterdir():
        size = path.stat().st_size if path.exists() else segment_bytes
        if size != segment_bytes:
            found[path.name] = _("its size in bytes is %(size)d, not %(expected)d") % {
                "size": size,
                "expected": segment_bytes,
            }
            path.unlink()
    return found


def _windows(segments: Sequence[Segment]) -> Iterator[Sequence[Segment]]:
    """Yield groups of up to `WINDOW` consecutive segments on one timeline; adjacent groups share a segment.

    Because of this overlap, a record that spans two segments is read as a whole in one of the groups.
    """
    runs: list[list[Segment]] = []
    for segment in sorted(segments, key=lambda one: (one.timeline, one.number)):
        last = runs[-1][-1] if runs else None
        if last and (last.timeline, last.number + 1) == (segment.timeline, segment.number):
            runs[-1].append(segment)
        else:
            runs.append([segment])
    for run in runs:
        for start in range(0, max(len(run) - 1, 1), WINDOW - 1):
            yield run[start : start + WINDOW]


def _read(waldump: Path, folder: Path, part: Sequence[Segment], segment_bytes: int) -> str:
    """Check the records that lie within these segments with pg_waldump; return its error message, or ""."""
    first, end = part[0].number * segment_bytes, (part[-1].number + 1) * segment_bytes
    span = ["--start", lsn_at(first), "--end", lsn_at(end), "--timeline", str(part[0].timeline)]
    try:
        programs.run([waldump, "--quiet", "--path", folder, *span], {})
    except programs.ToolError as error:
        return str(error.message)
    return ""


def _index(complaint: str, part: Sequence[Segment], archive: Archive) -> int:
    """Return the index of the segment that pg_waldump complains about; 0 if the message does not say."""
    names = [segment.name for segment in part]
    in_file, at_position = IN_FILE.search(complaint), AT_POSITION.search(complaint)
    if in_file and in_file[1] in names:
        return names.index(in_file[1])
    number = position(at_position[1]) // archive.segment_bytes if at_position else part[0].number
    return min(max(number - part[0].number, 0), len(part) - 1)


@contextmanager
def _room_for_copies() -> Iterator[None]:
    """Share the lock on the folder for copies; first remove copies that a killed process left behind.

    Such copies contain customer data. They stay while another process is verifying, since they may be its own.
    """
    above = _copies()
    above.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)
    with (above / ".verify.lock").open("w") as lock:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for left in above.glob(f"{COPY_PREFIX}*"):
                shutil.rmtree(left)
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=COPY_PREFIX, dir=_copies()) as folder:
        yield Path(folder)


def _copies() -> Path:
    return Path(settings.HOME) / "base-backups"
