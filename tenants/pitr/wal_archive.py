"""A server's archived WAL: which segments exist, which are missing, and the time of the last commit in it.

Segment names are PostgreSQL's: eight hexadecimal digits each for the timeline, for the upper 32 bits of the position at
which the segment starts, and for the segment's number within those 4 GiB of WAL.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tenants.files.locations import Folder, MissingFromPlace, Place
from tenants.files.streams import copy_stream
from tenants.servers import programs

SEGMENT_BYTES = 16 * 2**20
# The segment sizes that initdb accepts. A file of any other size is truncated.
SEGMENT_SIZES = {2**exponent for exponent in range(20, 31)}
NAME = re.compile(r"[0-9A-F]{24}")
NOTE = re.compile(r"[0-9A-F]{24}\.[0-9A-F]{8}\.backup")
# Suffix of the segment that pg_receivewal is writing.
PARTIAL = ".partial"
# How pg_waldump prints a commit: "… desc: COMMIT 2026-11-25 00:00:01.123456 UTC".
COMMIT = re.compile(r"desc: COMMIT(?:_PREPARED)?\b.*?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) UTC")
# How many of the last segments are searched for a commit. An idle server does not switch segments.
LOOK_BACK = 8


@dataclass(frozen=True, order=True)
class Segment:
    """A WAL segment, `SEGMENT_BYTES` long unless initdb was given a different size."""

    number: int
    timeline: int
    name: str


@dataclass(frozen=True)
class Archive:
    """The contents of a WAL archive at the time that it was listed."""

    segment_bytes: int
    # Sorted by number.
    segments: Sequence[Segment]
    # Names of PostgreSQL's backup history files, which start with a segment's name.
    notes: Sequence[str]

    def number_of(self, lsn: str) -> int:
        """Return the number of the segment that contains the position `lsn`."""
        return position(lsn) // self.segment_bytes

    def number(self, name: str) -> int:
        return segment_of(name, self.segment_bytes).number

    def name_of(self, number: int, timeline: int) -> str:
        return segment_name(number, timeline, self.segment_bytes)

    def gaps(self, lsn: str, timeline: int) -> list[str]:
        """Return the names of the segments missing between the position `lsn` and the end of the archive.

        A segment on `timeline` or any later one will do, since recovery follows the timelines.
        """
        there = {one.number for one in self.segments if one.timeline >= timeline}
        first, last = self.number_of(lsn), max(there, default=-1)
        return [self.name_of(number, timeline) for number in range(first, last) if number not in there]


def wal_archive_read(place: Place) -> Archive:
    """List the archived segments; an archive that does not exist yet counts as empty. Raises `PlaceError`."""
    try:
        there = list(place.names())
    except MissingFromPlace:
        there = []
    names = [name for name in there if NAME.fullmatch(name)]
    segment_bytes = next((size for size in map(place.size, names) if size in SEGMENT_SIZES), None) or SEGMENT_BYTES
    notes = [name for name in there if NOTE.fullmatch(name)]
    return Archive(segment_bytes, sorted(segment_of(name, segment_bytes) for name in names), notes)


def position(lsn: str) -> int:
    """Convert an LSN "A/B" to a byte position."""
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def lsn_at(position: int) -> str:
    """Convert a byte position to an LSN "A/B"."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def fetch(place: Place, name: str, target: Path) -> bool:
    """Copy an archived file to `target`, which appears only when complete; return False if the archive lacks the file.

    If pg_receivewal never finished a segment (because its server died), the partial file is used.
    """
    partial = target.with_name(f".{target.name}")
    for stored in (name, name + PARTIAL):
        try:
            with place.open(stored) as source, partial.open("wb") as copy:
                copy_stream(source, copy)
        except MissingFromPlace:
            continue
        partial.rename(target)
        return True
    return False


def latest_commit(place: Place, archive: Archive, version: int) -> datetime | None:
    """Return the time of the newest commit in the archived WAL; None if the last segments contain no commit.

    `version` is the server's major version. Raises `ToolError` or `PlaceError`.
    """
    waldump = programs.program("pg_waldump", version, exact=True)
    for segment in reversed(archive.segments[-LOOK_BACK:]):
        with _local(place, segment.name) as path:
            found = COMMIT.findall(_transactions(waldump, path))
        if found:
            return max(datetime.fromisoformat(moment).replace(tzinfo=UTC) for moment in found)
    return None


def _transactions(waldump: Path, path: Path) -> str:
    with tempfile.TemporaryFile() as printed:
        # pg_waldump fails where the WAL ends, in the middle of the segment.
        with (
            suppress(programs.ToolError),
            programs.running([waldump, "--rmgr=Transaction", path], {"TZ": "UTC"}, stdout=printed),
        ):
            pass
        printed.seek(0)
        return printed.read().decode(errors="replace")


@contextmanager
def _local(place: Place, name: str) -> Iterator[Path]:
    if isinstance(place, Folder):
        yield Path(place.url) / name
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        fetch(place, name, path)
        yield path


def segment_of(name: str, segment_bytes: int) -> Segment:
    """Parse the name of a segment that is `segment_bytes` long."""
    timeline, high, low = (int(name[start : start + 8], 16) for start in (0, 8, 16))
    return Segment(high * (2**32 // segment_bytes) + low, timeline, name)


def segment_name(number: int, timeline: int, segment_bytes: int) -> str:
    per_file = 2**32 // segment_bytes
    return f"{timeline:08X}{number // per_file:08X}{number % per_file:08X}"
