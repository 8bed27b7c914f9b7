"""Share the control database's connections in this process, as a worker's threads do."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections

from config.base.databases import CONTROL
from config.queue.connections import pool_control_connections


@contextmanager
def pooled_control_connections() -> Iterator[None]:
    """Put the worker's pool behind this process's connections for the duration of the block."""
    before = connections.settings[CONTROL]
    _drop_connection()
    connections.settings[CONTROL] = {**before}
    pool_control_connections()
    try:
        yield
    finally:
        connections[CONTROL].close()
        connections[CONTROL].close_pool()  # type: ignore[attr-defined]  # of the PostgreSQL backend
        _drop_connection()
        connections.settings[CONTROL] = before


def _drop_connection() -> None:
    connections[CONTROL].close()
    del connections[CONTROL]
