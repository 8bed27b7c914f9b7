"""Check WAL before it is replayed: replaying it must not write outside the replaying server's data directory.

A tablespace is a folder outside the data directory, and replay uses the path that it had on the server that wrote the
WAL. If a tablespace was created after the base backup, replaying its WAL on the same machine would write to the live
server's own files and silently replace newer rows with older ones. So pg_waldump reads each segment before a scratch
server gets it, and WAL that creates, drops or uses a tablespace is never replayed.

pg_waldump and the server share the code that reads WAL, so both stop at the same invalid record.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tenants.pitr.wal_archive import NAME, lsn_at, segment_name, segment_of
from tenants.servers import programs

# A record that starts in one segment may end in the next. The records that we search for are far shorter than this
# length, which is a multiple of the largest page size.
TAIL_BYTES = 2**16
# PostgreSQL's two built-in tablespaces, pg_default and pg_global.
OWN_TABLESPACES = {"1663", "1664"}
# pg_waldump's messages when there are no more valid records. After any other error, the WAL counts as not checked.
ENDED = re.compile(r"error in WAL record at|could not find a valid record after|could not find file")
# How pg_waldump prints a record: "rmgr: Tablespace … lsn: 0/1AF4488, prev …, desc: CREATE 16386 "/folder"".
RECORD = re.compile(r"rmgr: (\w+) .*? desc: (.*)")
# Databases are folders, named by tablespace and database: "CREATE_FILE_COPY copy dir 1663/1 to 16386/16388".
FOLDER = re.compile(r"\b(\d+)/\d+")


@dataclass(frozen=True)
class Tablespace:
    """A WAL record about a tablespace, as printed by pg_waldump, and the segment that contains it."""

    segment: str
    record: str


class LogCheck:
    """Checks the segments of one server, in replay order.

    `folder` is for temporary files; `version` is the server's major version.
    """

    def __init__(self, folder: Path, version: int) -> None:
        self._folder = folder
        self._waldump = programs.program("pg_waldump", version, exact=True)
        # Segment tails that the next segment may continue: the base backup's, and that of the last segment checked.
        self._given: dict[int, Path] = {}
        self._last: dict[int, Path] = {}

    def of_folder(self, pg_wal: Path) -> Tablespace | None:
        """Check the WAL inside a base backup; return the first record that names a tablespace, or None.

        Raises `ToolError` if pg_waldump cannot read the WAL, as does `of_segment`.
        """
        for path in sorted(path for path in pg_wal.iterdir() if NAME.fullmatch(path.name)):
            found = self.of_segment(path, path.name)
            if found:
                return found
            self._given |= self._last
        return None

    def of_segment(self, path: Path, name: str) -> Tablespace | None:
        """Check one segment, including records that began in the previous one; otherwise like `of_folder`."""
        size = path.stat().st_size
        number = segment_of(name, size).number if size else 0
        before = [tails[number - 1] for tails in (self._given, self._last) if number - 1 in tails]
        records = [*self._read(path), *(record for tail in before for record in self._read_seam(tail, path, name))]
        for tail in self._last.values():
            if tail not in self._given.values():
                tail.unlink()
        self._last = {number: self._tail(path, name)} if size else {}
        return next((Tablespace(name, record) for record in records), None)

    def _read(self, path: Path) -> list[str]:
        return self._records([path])

    def _read_seam(self, tail: Path, path: Path, name: str) -> list[str]:
        """Return the tablespace records around the start of this segment; `tail` is from the previous one."""
        size = path.stat().st_size
        segment = segment_of(name, size)
        border = segment.number * size
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            # Both files need names with the same timeline, or pg_waldump would not continue from one to the other.
            (Path(folder) / segment_name(segment.number - 1, segment.timeline, size)).symlink_to(tail.resolve())
            (Path(folder) / name).symlink_to(path.resolve())
            span = ["--start", lsn_at(border - TAIL_BYTES), "--end", lsn_at(border + TAIL_BYTES)]
            return self._records(["--path", folder, "--timeline", str(segment.timeline), *span])

    def _records(self, arguments: list[str | Path]) -> list[str]:
        with tempfile.TemporaryFile() as printed:
            command = [self._waldump, "--rmgr=Tablespace", "--rmgr=Database", *arguments]
            try:
                with programs.running(command, {}, stdout=printed):
                    pass
            except programs.ToolError as error:
                if not ENDED.search(str(error)):
                    raise
            printed.seek(0)
            return list(_tablespace_records(printed.read().decode(errors="replace")))

    def _tail(self, path: Path, name: str) -> Path:
        """Save the parts of a segment that `_read_seam` needs: the header in its first page, and the segment's end."""
        descriptor, kept = tempfile.mkstemp(prefix=f"{name}.", dir=self._folder)
        with path.open("rb") as source, os.fdopen(descriptor, "wb") as target:
            target.write(source.read(TAIL_BYTES))
            position = max(path.stat().st_size - 2 * TAIL_BYTES, 0)
            source.seek(position)
            target.seek(position)
            shutil.copyfileobj(source, target)
        return Path(kept)


def _tablespace_records(printed: str) -> Iterator[str]:
    """Yield the records that name a tablespace other than PostgreSQL's own."""
    for manager, record in RECORD.findall(printed):
        if manager == "Tablespace" or not OWN_TABLESPACES.issuperset(FOLDER.findall(record)):
            yield record
