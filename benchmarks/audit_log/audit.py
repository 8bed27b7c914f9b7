"""The cost of chaining the audit log: entries per second into the log, and into the same table without the chain."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, LiteralString

import psycopg

from benchmarks.children import Child, child
from benchmarks.environment import Environment
from benchmarks.measure import interleaved, ratios
from benchmarks.tables import Row, Table

if TYPE_CHECKING:
    from tenants.models import Tenant

WRITERS = 8
TENANTS = 64
ROUNDS = 12
TURN_S = 1.0
CHAINED, UNCHAINED = "audit_logs", "unchained_audit_logs"
# Same table, indexes, row width and guards against changes as the log, but without the chain.
MAKE_UNCHAINED: LiteralString = """
CREATE TABLE unchained_audit_logs (LIKE audit_logs INCLUDING ALL);
CREATE SEQUENCE unchained_sequence;
ALTER TABLE unchained_audit_logs
    ALTER COLUMN sequence SET DEFAULT nextval('unchained_sequence'),
    ALTER COLUMN previous_hash SET DEFAULT repeat('0', 64),
    ALTER COLUMN entry_hash SET DEFAULT repeat('0', 64);
CREATE TRIGGER prevent_audit_log_modification BEFORE UPDATE OR DELETE ON unchained_audit_logs
    FOR EACH ROW EXECUTE FUNCTION prevent_audit_log_modification();
CREATE TRIGGER prevent_audit_log_truncation BEFORE TRUNCATE ON unchained_audit_logs
    FOR EACH STATEMENT EXECUTE FUNCTION prevent_audit_log_modification('TRUNCATE');
ALTER TABLE unchained_audit_logs ENABLE ALWAYS TRIGGER prevent_audit_log_modification;
ALTER TABLE unchained_audit_logs ENABLE ALWAYS TRIGGER prevent_audit_log_truncation;
GRANT SELECT, INSERT ON unchained_audit_logs TO PUBLIC;
GRANT USAGE ON SEQUENCE unchained_sequence TO PUBLIC;
"""


def audit(environment: Environment) -> list[Table]:
    """Compare both tables, as the tenants' roles and with plain SQL: `record` would make the chain look cheaper."""
    return [_table(environment, 1, at_least=0.4), _table(environment, TENANTS, at_least=0.75)]


def _table(environment: Environment, count: int, *, at_least: float) -> Table:
    urls = [_tenant(environment, f"audit {count} {number}") for number in range(count)]
    with _writers(environment, dealt(urls, WRITERS)) as writers:

        def turn(table: str, flush: str = "first", alone: bool = False) -> Callable[[], float]:
            return lambda: _seconds_per_entry(writers[:1] if alone else writers, table, flush)

        seconds = interleaved(
            {
                "chained": turn(CHAINED),
                "unchained": turn(UNCHAINED),
                "chained, flushed after": turn(CHAINED, "after"),
                "chained, not flushed": turn(CHAINED, "later"),
                "unchained, not flushed": turn(UNCHAINED, "later"),
                "chained, one": turn(CHAINED, alone=True),
                "unchained, one": turn(UNCHAINED, alone=True),
            },
            rounds=ROUNDS,
        )
    # More entries per second is fewer seconds per entry.
    rows = [
        Row("chained ÷ unchained", ratios(seconds["unchained"], seconds["chained"]), at_least=at_least),
        Row(
            "the same, the chained giving up the lock before waiting for the disk",
            ratios(seconds["unchained"], seconds["chained, flushed after"]),
        ),
        Row(
            "the same without waiting for the disk",
            ratios(seconds["unchained, not flushed"], seconds["chained, not flushed"]),
        ),
        Row("the same with one writer", ratios(seconds["unchained, one"], seconds["chained, one"])),
        Row("unchained: 8 writers ÷ one", ratios(seconds["unchained, one"], seconds["unchained"])),
        Row("chained: 8 writers ÷ one", ratios(seconds["chained, one"], seconds["chained"])),
    ]
    return Table(f"Audit entries per second, {WRITERS} writers, tenants: {count}", rows)


def dealt(urls: Sequence[str], writers: int) -> list[list[str]]:
    """Return the databases of each writer: a share of them, or all if there are fewer databases than writers."""
    if len(urls) < writers:
        return [list(urls) for _ in range(writers)]
    return [list(urls[number::writers]) for number in range(writers)]


def seconds_per_entry(answers: Sequence[str]) -> float:
    """Return the seconds per entry over all writers, computed from the writers' replies."""
    rates = [int(committed) / float(took) for committed, took in map(str.split, answers)]
    return 1 / sum(rates)


@contextmanager
def _writers(environment: Environment, urls: Sequence[Sequence[str]]) -> Iterator[list[Child]]:
    with ExitStack() as stack:
        log = environment.log("audit_writer")
        writers = [
            stack.enter_context(child(["-m", "benchmarks.audit_log.audit_writer", *own], log=log)) for own in urls
        ]
        for writer in writers:
            writer.answer()
        yield writers


def _seconds_per_entry(writers: Sequence[Child], table: str, flush: str) -> float:
    for writer in writers:
        writer.send(f"{table} {flush} {TURN_S}")
    return seconds_per_entry([writer.answer() for writer in writers])


def _tenant(environment: Environment, name: str) -> str:
    """Create a tenant with a second, unchained log; return its database URL."""
    from tenants.lifecycle.create import tenant_create

    tenant: Tenant = tenant_create(name=name)
    database = re.sub(r"^.*/", "/", tenant.database_url)
    with psycopg.connect(environment.postgres_url.rpartition("/")[0] + database) as connection:
        connection.execute(MAKE_UNCHAINED)
    return str(tenant.database_url)
