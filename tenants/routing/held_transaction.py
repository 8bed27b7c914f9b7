"""Transactions that are idle on purpose: while pg_dump reads their snapshot, or while the other side of a copy works.

The server ends a transaction whose client says nothing (DATABASE_IDLE_IN_TRANSACTION_TIMEOUT_S). So whoever holds one
says something now and then. A process that is frozen or lost falls silent, and the server frees what it held.
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
    """Keep the connection's transaction alive inside the block, however long nothing is asked of it.

    The block may use the connection meanwhile: the driver lets one statement at a time through, and what is said while
    another is under way is refused by the driver and does not matter.
    """
    ended = threading.Event()
    interval_s = settings.DATABASE_LIMITS.idle_in_transaction_timeout_s / 3
    # Past Django, whose connections belong to one thread.
    driver = connection.connection

    def speak() -> None:
        while not ended.wait(interval_s):
            with suppress(Error), connection.wrap_database_errors:
                driver.execute("SELECT 1")

    thread = threading.Thread(target=speak, name=f"held {connection.alias}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
