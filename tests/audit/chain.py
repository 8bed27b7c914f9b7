"""Recompute the chain from its documented form, sharing no code with the trigger."""

from datetime import UTC
from hashlib import sha256
from typing import Any

import psycopg

from tests.audit.conftest import Log

COLUMNS = (
    "sequence, previous_hash, created_at, user_id, action, resource_type, resource_id, details::text, operation_id, "
    "id, entry_hash"
)


def expected_hash(row: tuple[Any, ...]) -> str:
    """Return the sha256 (hex) that an entry must carry; `row` holds the values of COLUMNS."""
    sequence, previous_hash, created_at, *texts = row[:9]
    time = created_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    fields = [str(sequence), previous_hash, time, *texts]
    form = ",".join("-" if field is None else f"{len(field.encode())}:{field}" for field in fields)
    return sha256(form.encode()).hexdigest()


def verify(connection: psycopg.Connection, log: Log) -> int:
    """Assert that the log is one unbroken chain which ends where its head says; return its length."""
    rows = connection.execute(f"SELECT {COLUMNS} FROM {log.table} ORDER BY sequence").fetchall()
    previous_hash, previous_time = log.genesis, None
    for number, row in enumerate(rows, start=1):
        assert row[0] == row[9] == number, "a sequence number is missing or doubled"
        assert row[1] == previous_hash, f"entry {number} does not follow the one before"
        assert row[10] == expected_hash(row), f"entry {number} does not have its hash"
        assert previous_time is None or row[2] >= previous_time
        previous_hash, previous_time = row[10], row[2]
    assert connection.execute(f"SELECT sequence, hash FROM {log.head}").fetchall() == [(len(rows), previous_hash)]
    return len(rows)
