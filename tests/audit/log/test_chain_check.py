"""Only the database sets numbers, times and hashes, and concurrent writers never fork the chain."""

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg.types.json import Jsonb

from audit.log.chain_sql import entry_hash_sql
from tests.audit.chain import verify
from tests.audit.conftest import Log

WRITERS = 8
TRANSACTIONS_EACH = 40
FORGED = {
    "id": 77,
    "sequence": 99,
    "created_at": datetime(1999, 1, 1, tzinfo=UTC),
    "previous_hash": "f" * 64,
    "entry_hash": "0" * 64,
}
TEXTS = ["", "a", "é,ü", "記事", "1:a,", "-", "quote ' \\ \n tab\t", "😀"]


def test_a_fresh_chain_starts_from_the_identity_of_its_tenant(tenant_log: Log) -> None:
    with tenant_log.as_superuser() as superuser:
        assert verify(superuser, tenant_log) >= 0


@pytest.mark.parametrize("column", [*FORGED, "all"])
def test_chain_values_of_the_writer_are_overridden(log: Log, column: str) -> None:
    forged = FORGED if column == "all" else {column: FORGED[column]}
    names, marks = ", ".join(forged), ", ".join(["%s"] * len(forged))
    with log.as_app() as app:
        before = app.execute(f"SELECT count(*) FROM {log.table}").fetchone()
        app.execute(
            f"INSERT INTO {log.table} (user_id, action, resource_type, resource_id, {names})"
            f" VALUES ('a', 'b', 'c', 'd', {marks})",
            list(forged.values()),
        )
        row = app.execute(f"SELECT {', '.join(FORGED)} FROM {log.table} ORDER BY sequence DESC LIMIT 1").fetchone()
    assert before is not None and row is not None
    assert row[0] == row[1] == before[0] + 1
    assert abs(row[2] - datetime.now(UTC)) < timedelta(minutes=1)
    with log.as_superuser() as superuser:
        assert verify(superuser, log) == before[0] + 1


def test_a_rolled_back_entry_leaves_no_gap(log: Log) -> None:
    with log.as_superuser() as superuser:
        length = verify(superuser, log)
    with log.as_app() as app:
        app.execute(log.insert)
        app.rollback()
        app.execute(log.insert)
        with pytest.raises(psycopg.errors.NotNullViolation), app.transaction():
            app.execute(f"INSERT INTO {log.table} (user_id) VALUES ('a')")
        app.execute(log.insert)
    with log.as_superuser() as superuser:
        assert verify(superuser, log) == length + 2


def test_many_rows_in_one_statement_are_chained_one_by_one(log: Log) -> None:
    with log.as_superuser() as superuser:
        length = verify(superuser, log)
    with log.as_app() as app:
        app.execute(
            f"INSERT INTO {log.table} (user_id, action, resource_type, resource_id)"
            " SELECT 'a', 'b', 'c', n::text FROM generate_series(1, 50) AS n"
        )
        with app.cursor().copy(f"COPY {log.table} (user_id, action, resource_type, resource_id) FROM STDIN") as copy:
            copy.write_row(("a", "b", "c", "d"))
    with log.as_superuser() as superuser:
        assert verify(superuser, log) == length + 51


def test_null_and_empty_are_different_entries(tenant_log: Log) -> None:
    hashes = set()
    with tenant_log.as_superuser() as superuser:
        expression = entry_hash_sql("entry")
        for operation in ("NULL", "''"):
            row = superuser.execute(
                f"SELECT {expression} FROM (SELECT 1 AS sequence, '' AS previous_hash, now() AS created_at,"
                f" 'a' AS user_id, 'b' AS action, 'c' AS resource_type, 'd' AS resource_id, NULL::jsonb AS details,"
                f" {operation}::text AS operation_id) AS entry"
            ).fetchone()
            hashes.add(row)
    assert len(hashes) == 2


def test_concurrent_writers_never_fork_the_chain(log: Log) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # shown if the test fails
    with log.as_superuser() as superuser:
        length = verify(superuser, log)
    with ThreadPoolExecutor(WRITERS) as threads:
        written = sum(threads.map(lambda number: _write_at_random(log, random.Random(seed + number)), range(WRITERS)))
    with log.as_superuser() as superuser:
        assert verify(superuser, log) == length + written
        assert superuser.execute(_BROKEN.format(log=log.table, hash=entry_hash_sql("entry"))).fetchall() == []


# The check of a chain in SQL: entries with a wrong hash, or that do not follow the one before.
_BROKEN = """
SELECT sequence FROM (
    SELECT sequence, entry_hash, previous_hash, {hash} AS computed,
           lag(entry_hash) OVER (ORDER BY sequence) AS before, lag(sequence) OVER (ORDER BY sequence) AS number_before
      FROM {log} AS entry
) AS checked
WHERE entry_hash <> computed OR previous_hash <> before OR sequence <> number_before + 1
"""


def _write_at_random(log: Log, chance: random.Random) -> int:
    """Append entries in transactions of random size, isolation level and outcome; return how many were committed."""
    written = 0
    with log.as_app() as app:
        for _ in range(TRANSACTIONS_EACH):
            app.isolation_level = chance.choice(list(psycopg.IsolationLevel))
            try:
                count = _append(app, log, chance)
                if chance.random() < 0.2:
                    app.rollback()
                else:
                    # A serializable transaction may only be refused here, at the commit.
                    app.commit()
                    written += count
            except psycopg.errors.SerializationFailure:
                app.rollback()
    return written


def _append(app: psycopg.Connection, log: Log, chance: random.Random) -> int:
    count = chance.randint(1, 4)
    for _ in range(count):
        details = chance.choice([None, Jsonb({chance.choice(TEXTS): [chance.random(), None, chance.choice(TEXTS)]})])
        values = [chance.choice(TEXTS), chance.choice(TEXTS), "run", chance.choice(TEXTS), details]
        app.execute(
            f"INSERT INTO {log.table} (user_id, action, resource_type, resource_id, details, operation_id)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            [*values, chance.choice([None, *TEXTS])],
        )
    return count
