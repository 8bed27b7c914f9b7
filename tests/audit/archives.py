"""Change and remove archived audit logs as a superuser, with the triggers disabled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import psycopg

from tests.audit.conftest import Log

TABLES = ("archived_audit_logs", "audit_archives")
TRIGGERS = ("prevent_audit_log_modification", "prevent_audit_log_truncation", "refuse_archived_audit_log")


@contextmanager
def triggers_off(control_log: Log) -> Iterator[psycopg.Connection]:
    """Yield a superuser's connection without the archive's guards; restore them afterwards."""
    with control_log.as_superuser() as superuser:
        for table in TABLES:
            superuser.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
        yield superuser
        for table in TABLES:
            for trigger in TRIGGERS:
                superuser.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}")


def forget(control_log: Log, identity: UUID) -> None:
    """Remove the archived log of this identity, since nothing else does."""
    with triggers_off(control_log) as superuser:
        for table in TABLES:
            superuser.execute(f"DELETE FROM {table} WHERE identity = %s", (identity,))
