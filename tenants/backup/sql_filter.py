"""Plain SQL as pg_dump writes it, made fit to be loaded by a role that owns nothing yet.

Left out is what belongs to the installation that it comes from (owners, grants), and settings that an older server does
not know. Data and quoted text pass as they are. What the dump may not do is not decided here: psql itself refuses its
own commands (`\\restrict`), and the server what the role has no right to.
"""

from __future__ import annotations

import io
import re
import secrets
from collections.abc import Iterator
from functools import lru_cache
from typing import IO, Any

from django.utils.translation import gettext as _

from tenants.errors import TenantError

CHUNK_BYTES = 2**20
# Of one line outside a table's data, which is held in memory: the longest of pg_dump's own is a function or a view.
MAX_LINE_BYTES = 32 * 2**20
END_OF_COPY = b"\\.\n"
# What pg_dump writes on one line each, and we do ourselves.
NOT_OURS = re.compile(
    rb"(ALTER [^;]* OWNER TO [^;]*;|(GRANT|REVOKE) [^;]* (TO|FROM) [^;]*;|ALTER DEFAULT PRIVILEGES [^;]*;"
    rb"|SET transaction_timeout[^;]*;|SET default_table_access_method[^;]*;|\\(un)?restrict [A-Za-z0-9]+)\s*$"
)
COPY = re.compile(rb"COPY .* FROM stdin;\s*$")
# What begins a text that may go on over lines, a name, or a comment; and what ends it. A doubled quote ends and begins.
QUOTE = re.compile(
    rb"""--.*|/\*|["']|(?<![\w$\x80-\xff])(?:[eE]'|\$(?:[A-Za-z_\x80-\xff][\w\x80-\xff]*)?\$)""", re.DOTALL
)
ENDS = {b"/*": rb"\*/", b"e'": rb"(?<!\\)(?:\\\\)*'"}  # all others as they began


class NotADump(TenantError):
    """The file is not what pg_dump writes for one database."""

    code = "backup_not_recognized"


def statements(source: IO[bytes]) -> Iterator[bytes]:
    """Yield the dump in pieces, ready for psql's standard input, with psql's own commands locked.

    Raises `NotADump` where it ends inside its data.
    """
    key = secrets.token_hex(16).encode()
    yield b"\\restrict " + key + b"\n"
    yield from _filtered(io.BufferedReader(_Raw(source), CHUNK_BYTES))
    yield b"\\unrestrict " + key + b"\n"


class _Raw(io.RawIOBase):
    """What can only be read, for `io.BufferedReader`."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._source.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _filtered(lines: io.BufferedReader) -> Iterator[bytes]:
    end: re.Pattern[bytes] | None = None
    while line := lines.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES:
            raise NotADump(_("The dump holds a line that is longer than any of pg_dump's."))
        if end is None and NOT_OURS.match(line):
            continue
        yield line
        if end is None and COPY.match(line):
            yield from _data(lines)
        else:
            end = _end_after(line, end)


def _data(lines: io.BufferedReader) -> Iterator[bytes]:
    """Yield what a COPY reads, up to and with the line "\\."; raise `NotADump` where the stream ends before."""
    begins = True
    while piece := lines.readline(CHUNK_BYTES):
        yield piece
        if begins and piece == END_OF_COPY:
            return
        begins = piece.endswith(b"\n")
    raise NotADump(_("The dump ends in the middle of a table's data."))


def _end_after(line: bytes, end: re.Pattern[bytes] | None) -> re.Pattern[bytes] | None:
    """Return what ends the text that is open after `line`, given that of the one before it; None where none is."""
    position = 0
    while found := (end or QUOTE).search(line, position):
        position = found.end()
        end = _end_of(found[0]) if end is None else None
    return end


@lru_cache
def _end_of(begun: bytes) -> re.Pattern[bytes] | None:
    """Return what ends what begins so; None for a comment, which ends with its line."""
    if begun.startswith(b"--"):
        return None
    return re.compile(ENDS.get(begun.lower(), re.escape(begun)))
