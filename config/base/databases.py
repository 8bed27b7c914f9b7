"""The control database's alias, and helpers for connections."""

import select
from typing import Any

from django.db import connections

# The control database's alias. Tenants' databases have aliases of their own (`tenants.routing`).
CONTROL = "default"


def return_control_connection() -> None:
    """Return this thread's connection to the control database to its pool, if it has one (`config.queue.connections`).

    For threads that are about to wait for something else: many of them share few connections.
    """
    connection = connections[CONTROL]
    if connection.settings_dict["OPTIONS"].get("pool"):
        connection.close()


def is_quiet(connection: Any) -> bool:
    """Return whether an idle psycopg connection has nothing to read.

    A server that ends a session says so and hangs up, and the kernel's keepalives notice a lost peer; both leave
    something to read. So a quiet connection can be used without asking the server, which would cost a round trip. A
    connection that is not quiet may still be usable, because some messages are only notices.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)
