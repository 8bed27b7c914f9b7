"""Append entries to audit logs as fast as one writer can: `python -m benchmarks.audit_log.audit_writer URL…`.

Print "ready" once connected. For each input line "TABLE FLUSH SECONDS", append entries to the databases in turn for
that many seconds, each entry in a transaction of its own. Then print the number of committed entries and the seconds
taken. FLUSH says when an entry is flushed to disk: "first" means before another writer gets the lock on the chain's
head; "after" means that the writer releases the lock at the commit and then waits for the flush; "later" means that it
does not wait for the flush at all.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import count, cycle

import psycopg
from psycopg import sql

# The entry of a finished step, as `audit.log.entries.record` writes it.
INSERT = """
INSERT INTO {} (user_id, action, resource_type, resource_id, details, operation_id) VALUES (%s, %s, %s, %s, %s, %s)
"""
DETAILS = (
    '{"run_id": "3f0c8f9e-52a5-4b0b-9b0e-0a4bb0a4e3f5", "step": "draft", "attempt": 1, "token": 1,'
    ' "output_digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",'
    ' "artifact_digest": "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"}'
)
# A commit that waits for the disk also flushes all earlier commits.
WAIT = "SELECT set_config('synchronous_commit', 'on', true), pg_current_xact_id()"


def work(connections: Sequence[psycopg.Connection], table: str, flush: str, seconds: float) -> tuple[int, float]:
    """Append entries for this many seconds; return the number of committed entries and the seconds taken."""
    for connection in connections:
        connection.execute(f"SET synchronous_commit = {'on' if flush == 'first' else 'off'}")
    insert = sql.SQL(INSERT).format(sql.Identifier(table))
    number, begun = 0, time.perf_counter()
    for number, connection in zip(count(1), cycle(connections), strict=False):
        values = ("worker:benchmark@host", "step.complete", "step", str(number), DETAILS, None)
        connection.execute(insert, values, prepare=True)
        if flush == "after":
            connection.execute(WAIT, prepare=True)
        if time.perf_counter() - begun >= seconds:
            break
    return number, time.perf_counter() - begun


def answers(urls: Sequence[str], requests: Iterator[str]) -> Iterator[str]:
    with ExitStack() as stack:
        connections = [stack.enter_context(psycopg.connect(url, autocommit=True)) for url in urls]
        yield "ready"
        for request in requests:
            table, flush, seconds = request.split()
            committed, took = work(connections, table, flush, float(seconds))
            yield f"{committed} {took}"


if __name__ == "__main__":
    for answer in answers(sys.argv[1:], sys.stdin):
        print(answer, flush=True)
