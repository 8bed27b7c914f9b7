"""An audit log outside a database: one JSON document a line, each with what its hash covers, as text.

What is hashed is described in `audit.log.guards.HASHED_FIELDS`; `entry_hash` computes it without a database.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import LiteralString
from uuid import UUID

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from audit.log.chain import ChainHead, genesis_of
from audit.log.guards import HASHED_FIELDS
from audit.log.safe_search_path import catalog_only

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

    One statement, and so one moment. Constant memory inside a transaction; outside one the server keeps the rows.
    """
    with connection.chunked_cursor() as cursor:
        # What the names mean is settled when the cursor is opened.
        with catalog_only(connection):
            cursor.execute(LINES.replace("{log}", log))
        while rows := cursor.fetchmany(BATCH):
            for *fields, hash_of_entry in rows:
                yield json_line(fields, hash_of_entry)


def audit_pages(alias: str, log: LiteralString, up_to: int) -> Iterator[bytes]:
    """Yield the same lines up to a sequence number, some at a time; nothing is held between one page and the next.

    Entries are only ever appended, so the pages are of one moment though each is a statement of its own.
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
    """Write one entry, from the text of each of its FIELDS."""
    document = {**dict(zip(FIELDS, fields, strict=True)), "entry_hash": hash_of_entry}
    return json.dumps(document, ensure_ascii=False).encode() + b"\n"


def parse_line(line: bytes) -> tuple[list[str | None], str]:
    """Return (the text of each of FIELDS, the entry's hash); raise ValueError, KeyError or TypeError for no entry."""
    document = json.loads(line)
    return [document[name] for name in FIELDS], document["entry_hash"]


def lines_check(lines: Iterable[bytes], identity: UUID) -> tuple[int | None, ChainHead]:
    """Return (number of the first line that is wrong, None where none is; where the chain ends before it)."""
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
    """Return the hash of an entry, from the text of each of its fields."""
    parts = ("-" if field is None else f"{len(field.encode())}:{field}" for field in fields)
    return hashlib.sha256(",".join(parts).encode()).hexdigest()
