"""The worker's connections to the control database: its threads share a few.

Django keeps one connection per thread, so 64 threads would hold 64. In workers, a pool of `psycopg_pool` stands behind
them: Celery closes each thread's connection after every task, and `return_control_connection` before each call to a
model; both only return it to the pool.
"""

from __future__ import annotations

from django.conf import settings
from django.db import connections

from config.base.databases import CONTROL

# Idle connections are closed after this.
IDLE_S = 300.0


def pool_control_connections() -> None:
    """Put a pool behind this process's connections to the control database. Call this before the first is opened."""
    control = connections.settings[CONTROL]
    # The pool keeps the connections, and Django demands that nothing else does.
    control["CONN_MAX_AGE"] = 0
    # The backend finds out about ended connections without asking the server each time.
    control.update(ENGINE="config.queue.backend", CONN_HEALTH_CHECKS=False)
    pool = {
        "min_size": 1,
        "max_size": settings.WORKER_CONTROL_CONNECTIONS_MAX,
        "timeout": settings.WORKER_CONTROL_CONNECTION_WAIT_S,
        "max_idle": IDLE_S,
        "num_workers": 1,
    }
    control["OPTIONS"] = {**control["OPTIONS"], "pool": pool}
