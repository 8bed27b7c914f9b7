"""Filter pg_dump's plain SQL so that a role that owns nothing yet can load it.

The filter removes what belongs to the source installation (owners, grants, the default table access method), a setting
that an older server does not know, and the dump's own `\\restrict` lines. Data and quoted text are not changed. This is
not a security filter: psql itself refuses psql commands (`\\restrict`), and the server refuses anything that the role
has no privilege for.
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
# Limit for lines outside a table's data, since lines are held in memory. pg_dump's longest are functions and views.
MAX_LINE_BYTES = 32 * 2**20
END_OF_COPY = b"\\.\n"
# Statements to remove. pg_dump writes each of them on one line; we issue those that we need ourselves.
NOT_OURS = re.compile(
    rb"(ALTER [^;]* OWNER TO [^;]*;|(GRANT|REVOKE) [^;]* (TO|FROM) [^;]*;|ALTER DEFAULT PRIVILEGES [^;]*;"
    rb"|SET transaction_timeout[^;]*;|SET default_table_access_method[^;]*;|\\(un)?restrict [A-Za-z0-9]+)\s*$"
)
COPY = re.compile(rb"COPY .* FROM stdin;\s*$")
# Openings of literals, quoted names and comments, which may span lines. A doubled quote counts as a closing and an
# opening one.
QUOTE = re.compile(
    rb"""--.*|/\*|["']|(?<![\w$\x80-\xff])(?:[eE]'|\$(?:[A-Za-z_\x80-\xff][\w\x80-\xff]*)?\$)""", re.DOTALL
)
ENDS = {b"/*": rb"\*/", b"e'": rb"(?<!\\)(?:\\\\)*'"}  # the rest end as they begin


class NotADump(TenantError):
    """The dump is truncated, or has a line that is too long."""

    code = "backup_not_recognized"


def statements(source: IO[bytes]) -> Iterator[bytes]:
    """Yield the dump in pieces for psql's standard input; psql commands in the dump are disabled.

    Raises `NotADump` if the dump ends in the middle of a table's data, or has a line that is too long.
    """
    key = secrets.token_hex(16).encode()
    yield b"\\restrict " + key + b"\n"
    yield from _filtered(io.BufferedReader(_Raw(source), CHUNK_BYTES))
    yield b"\\unrestrict " + key + b"\n"


class _Raw(io.RawIOBase):
    """Adapts a readable stream so that `io.BufferedReader` accepts it."""

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
            raise NotADump(
                _("The dump contains a line longer than %(limit)d MiB outside its COPY data.")
                % {"limit": MAX_LINE_BYTES // 2**20}
            )
        if end is None and NOT_OURS.match(line):
            continue
        yield line
        if end is None and COPY.match(line):
            yield from _data(lines)
        else:
            end = _end_after(line, end)


def _data(lines: io.BufferedReader) -> Iterator[bytes]:
    """Yield COPY data through the line "\\."; raise `NotADump` if the stream ends before it."""
    begins = True
    while piece := lines.readline(CHUNK_BYTES):
        yield piece
        if begins and piece == END_OF_COPY:
            return
        begins = piece.endswith(b"\n")
    raise NotADump(_("The dump ends in the middle of a table's data."))


def _end_after(line: bytes, end: re.Pattern[bytes] | None) -> re.Pattern[bytes] | None:
    """Return the terminator of the literal or comment left open after `line`; None if there is none.

    `end` is the terminator of the literal or comment that the previous line left open, if any.
    """
    position = 0
    while found := (end or QUOTE).search(line, position):
        position = found.end()
        end = _end_of(found[0]) if end is None else None
    return end


@lru_cache
def _end_of(begun: bytes) -> re.Pattern[bytes] | None:
    """Return the terminator that matches an opening delimiter; None for a "--" comment, which ends with its line."""
    if begun.startswith(b"--"):
        return None
    return re.compile(ENDS.get(begun.lower(), re.escape(begun)))
