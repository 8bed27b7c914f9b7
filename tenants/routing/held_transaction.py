"""Transactions that are idle on purpose: while pg_dump reads their snapshot, or while the other side of a copy is busy.

The server ends idle transactions (DATABASE_IDLE_IN_TRANSACTION_TIMEOUT_S), so we send a statement now and then. If our
process freezes or dies, the statements stop, and the server frees what the transaction held.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import Error


@contextmanager
def held_open(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Keep the connection's transaction alive inside the block, however long it is idle.

    The block may use the connection meanwhile. The driver runs one statement at a time: ours waits for the block's
    statements, and fails during a COPY, which does no harm.
    """
    ended = threading.Event()
    interval_s = settings.DATABASE_LIMITS.idle_in_transaction_timeout_s / 3
    # Bypasses Django, whose connections belong to one thread.
    driver = connection.connection

    def send_statements() -> None:
        while not ended.wait(interval_s):
            with suppress(Error), connection.wrap_database_errors:
                driver.execute("SELECT 1")

    thread = threading.Thread(target=send_statements, name=f"held {connection.alias}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
