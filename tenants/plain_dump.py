"""Plain SQL as pg_dump writes it, made fit to be loaded by a role that owns nothing yet.

Left out is what belongs to the installation that it comes from (owners, grants), settings that an older server does not
know, and psql's own commands. Data passes as it is.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from typing import IO

from django.utils.translation import gettext as _

from tenants.errors import TenantError

CHUNK_BYTES = 2**20
# Of one line outside a table's data, which is held in memory: the longest of pg_dump's own is a function or a view.
MAX_LINE_BYTES = 32 * 2**20
END_OF_COPY = b"\n\\.\n"
# What pg_dump writes on one line each, and we do ourselves.
NOT_OURS = re.compile(
    rb"(ALTER [^;]* OWNER TO [^;]*;|(GRANT|REVOKE) [^;]* (TO|FROM) [^;]*;|ALTER DEFAULT PRIVILEGES [^;]*;"
    rb"|SET transaction_timeout[^;]*;|SET default_table_access_method[^;]*;|\\(un)?restrict [A-Za-z0-9]+)\s*$"
)
COPY = re.compile(rb"COPY .* FROM stdin;\s*$")
DOLLAR = re.compile(rb"\$(?:[A-Za-z_][A-Za-z0-9_]*)?\$")
# Any other command of psql's: a dump of one database has none, and it could run programs.
META = re.compile(rb"\\(?!\.\s*$)")


class NotADump(TenantError):
    """The file is not what pg_dump writes for one database."""

    code = "backup_not_recognized"


def statements(source: IO[bytes]) -> Iterator[bytes]:
    """Yield the dump in pieces, ready for psql's standard input, which is locked against further commands of psql's.

    Raises `NotADump` where it holds one, or ends inside its data.
    """
    key = secrets.token_hex(16).encode()
    yield b"\\restrict " + key + b"\n"
    yield from _filtered(_Reader(source))
    yield b"\\unrestrict " + key + b"\n"


class _Reader:
    """Lines of a binary stream, and the raw bytes between them."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._buffer = b""

    def line(self) -> bytes:
        """Return the next line with its end; b"" at the end of the stream. Raises `NotADump` for one without an end."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > MAX_LINE_BYTES:
                raise NotADump(_("The dump holds a line that is longer than any of pg_dump's."))
            if not self._fill():
                end = len(self._buffer) - 1
                break
        line, self._buffer = self._buffer[: end + 1], self._buffer[end + 1 :]
        return line

    def data(self) -> Iterator[bytes]:
        """Yield what a COPY reads, up to and with the line "\\."; raise `NotADump` where the stream ends before."""
        # As if a line had ended: the data may be empty.
        pending = b"\n" + self._buffer
        first = True
        while (end := pending.find(END_OF_COPY)) < 0:
            # The end may be cut in two by the edge of what was read.
            keep = len(END_OF_COPY) - 1
            ready, rest = pending[:-keep], pending[-keep:]
            if ready:
                yield ready[1:] if first else ready
                first = False
            self._buffer = b""
            if not self._fill():
                raise NotADump(_("The dump ends in the middle of a table's data."))
            pending = rest + self._buffer
        ready = pending[: end + len(END_OF_COPY)]
        self._buffer = pending[end + len(END_OF_COPY) :]
        yield ready[1:] if first else ready

    def _fill(self) -> bool:
        more = self._source.read(CHUNK_BYTES)
        self._buffer += more
        return bool(more)


def _filtered(reader: _Reader) -> Iterator[bytes]:
    quote: bytes | None = None
    while line := reader.line():
        if quote is None and NOT_OURS.match(line):
            continue
        if quote is None and META.match(line):
            raise NotADump(_("The dump holds a command of psql's, so it is not a dump of one database."))
        yield line
        if quote is None and COPY.match(line):
            yield from reader.data()
        else:
            quote = _quote_after(line, quote)


def _quote_after(line: bytes, quote: bytes | None) -> bytes | None:
    """Return the dollar quote that is open after `line`, given the one before it."""
    for found in DOLLAR.findall(line):
        if quote is None:
            quote = found
        elif found == quote:
            quote = None
    return quote
