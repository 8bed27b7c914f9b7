"""What an owner or a superuser can do to a log, and what `audit verify` reports afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from audit.log.chain_sql import entry_hash_sql
from tests.audit.conftest import Log

if TYPE_CHECKING:
    from audit.verification.log_check import LogReport
    from tenants.models import Tenant

CONTROL_TABLES = (
    *("control_audit_logs", "control_audit_chain_heads"),
    *("audit_anchors", "audit_archives", "archived_audit_logs", "erasures"),
)
# Recomputes both hashes of every entry from %s on, so that each follows from the one before, and sets the head.
RECOMPUTE = """
DO $$
DECLARE
    entry public.{log}%ROWTYPE;
    before text;
BEGIN
    SELECT entry_hash INTO before FROM public.{log} WHERE sequence = {first} - 1;
    before := coalesce(before, '{genesis}');
    FOR entry IN SELECT * FROM public.{log} WHERE sequence >= {first} ORDER BY sequence LOOP
        entry.previous_hash := before;
        before := {hash};
        UPDATE public.{log} SET previous_hash = entry.previous_hash, entry_hash = before
         WHERE sequence = entry.sequence;
    END LOOP;
    UPDATE public.{head} SET hash = before, sequence = coalesce((SELECT max(sequence) FROM public.{log}), 0);
END $$
"""


@dataclass(frozen=True)
class Victim:
    """A log to attack; `tenant` is its tenant, or any tenant if it is the control log."""

    log: Log
    tenant: Tenant

    @property
    def is_control(self) -> bool:
        return self.log.table == "control_audit_logs"

    def append(self, count: int) -> None:
        with self.log.as_app() as app:
            for _ in range(count):
                app.execute(self.log.insert)

    def length(self) -> int:
        with self.log.as_superuser() as superuser:
            return number(superuser, f"SELECT count(*) FROM {self.log.table}")

    def report(self) -> LogReport:
        """Verify, and return this log's report."""
        from audit.verification.verify import audit_verify

        control, of_tenant = audit_verify(tenant_id=self.tenant.id)
        return control if self.is_control else of_tenant

    @contextmanager
    def triggers_off(self) -> Iterator[psycopg.Connection]:
        with self.log.as_superuser() as superuser:
            for table in (self.log.table, self.log.head):
                superuser.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
            yield superuser
            guards_on(superuser, (self.log.table, self.log.head))

    def recompute(self, superuser: psycopg.Connection, first: int) -> None:
        """Recompute the chain from entry `first` on, and update the head."""
        superuser.execute(
            RECOMPUTE.replace("{hash}", entry_hash_sql("entry"))
            .replace("{log}", self.log.table)
            .replace("{head}", self.log.head)
            .replace("{genesis}", self.log.genesis)
            .replace("{first}", str(first))
        )


def number(connection: psycopg.Connection, query: str) -> int:
    row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def guards_on(superuser: psycopg.Connection, tables: tuple[str, ...]) -> None:
    for table in tables:
        names = superuser.execute(
            "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgrelid = %s::regclass", [table]
        ).fetchall()
        for (name,) in names:
            superuser.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}")


@contextmanager
def put_back(control_log: Log) -> Iterator[None]:
    """Undo all changes made inside the block to the control log, anchors, archives and ledger, legitimate ones too."""
    with control_log.as_superuser() as superuser:
        for table in CONTROL_TABLES:
            superuser.execute(f"CREATE TEMPORARY TABLE kept_{table} AS TABLE {table}")
        superuser.commit()
        try:
            yield
        finally:
            superuser.rollback()
            # Deferred foreign key checks would block altering the tables.
            superuser.execute("SET CONSTRAINTS ALL IMMEDIATE")
            for table in CONTROL_TABLES:
                superuser.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
                superuser.execute(f"DELETE FROM {table}")
                superuser.execute(f"INSERT INTO {table} TABLE kept_{table}")
            guards_on(superuser, CONTROL_TABLES)
