"""Share the control database's connections in this process, as a worker's threads do."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections

from config.base.databases import CONTROL
from config.queue.connections import pool_control_connections


@contextmanager
def pooled_control_connections() -> Iterator[None]:
    """Use a worker's pool for this process's connections to the control database during the block."""
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
