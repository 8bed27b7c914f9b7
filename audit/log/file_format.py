"""The file format of an audit log: one JSON document per line, with every hashed field as text.

`audit.log.chain_sql.HASHED_FIELDS` describes what is hashed; `entry_hash` computes the hash without a database.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import LiteralString
from uuid import UUID

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from audit.log.chain_check import ChainHead, genesis_of
from audit.log.chain_sql import HASHED_FIELDS
from audit.log.safe_search_path import catalog_only
from config.base.json_text import parse_json

FIELDS = (
    "sequence",
    "previous_hash",
    "created_at",
    "user_id",
    "action",
    "resource_type",
    "resource_id",
    "details",
    "operation_id",
)
ENTRIES = f"""
SELECT {", ".join(field.replace("{row}", "entry") for field in HASHED_FIELDS)}, entry.entry_hash
  FROM public.{{log}} AS entry
"""
LINES = ENTRIES + " ORDER BY entry.sequence"
PAGE = ENTRIES + " WHERE entry.sequence > %s AND entry.sequence <= %s ORDER BY entry.sequence LIMIT %s"
BATCH = 2000


def audit_lines(connection: BaseDatabaseWrapper, log: LiteralString = "audit_logs") -> Iterator[bytes]:
    """Yield the log's entries, oldest first, as lines of JSON.

    Runs as one statement, so on one snapshot. Uses constant memory inside a transaction; outside one, the server
    materializes all rows.
    """
    with connection.chunked_cursor() as cursor:
        # Names are resolved when the cursor is opened; fetching does not look them up again.
        with catalog_only(connection):
            cursor.execute(LINES.replace("{log}", log))
        while rows := cursor.fetchmany(BATCH):
            for *fields, hash_of_entry in rows:
                yield json_line(fields, hash_of_entry)


def audit_pages(alias: str, log: LiteralString, up_to: int) -> Iterator[bytes]:
    """Yield the lines of `audit_lines` up to number `up_to`, a page at a time; nothing stays open between pages.

    Each page is a separate statement. The pages are still consistent, because entries are only ever appended.
    """
    after = 0
    while after < up_to:
        with catalog_only(connections[alias]), connections[alias].cursor() as cursor:
            cursor.execute(PAGE.replace("{log}", log), [after, up_to, BATCH])
            rows = cursor.fetchall()
        if not rows:
            return
        after = int(rows[-1][0])
        yield b"".join(json_line(fields, hash_of_entry) for *fields, hash_of_entry in rows)


def json_line(fields: list[str | None], hash_of_entry: str) -> bytes:
    """Return one entry as a line, given the text of each of its FIELDS."""
    document = {**dict(zip(FIELDS, fields, strict=True)), "entry_hash": hash_of_entry}
    return json.dumps(document, ensure_ascii=False).encode() + b"\n"


def parse_line(line: bytes) -> tuple[list[str | None], str]:
    """Return (text of each of FIELDS, or None for NULL; entry hash).

    Raises ValueError, KeyError or TypeError if the line is not an entry. The types of the values
    are not checked.
    """
    document = parse_json(line)
    return [document[name] for name in FIELDS], document["entry_hash"]


def lines_check(lines: Iterable[bytes], identity: UUID) -> tuple[int | None, ChainHead]:
    """Return (number of the first bad line, end of the chain before it); (None, end of the chain) if all are good."""
    head = ChainHead(0, genesis_of(identity))
    for number, line in enumerate(lines, start=1):
        try:
            fields, claimed = parse_line(line)
        except (ValueError, KeyError, TypeError):
            return number, head
        follows = (fields[0], fields[1]) == (str(number), head.hash)
        if not follows or claimed != entry_hash(fields):
            return number, head
        head = ChainHead(number, claimed)
    return None, head


def entry_hash(fields: list[str | None]) -> str:
    """Return an entry's hash, given the text of each of its fields."""
    parts = ("-" if field is None else f"{len(field.encode())}:{field}" for field in fields)
    return hashlib.sha256(",".join(parts).encode()).hexdigest()
