"""Find and repair what a test leaves behind in this process that would make other tests fail."""

from __future__ import annotations

import gc
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from django.db import connections

from audit.log import actor as actors
from config.stack.process import wait_until
from tenants.naming import TENANT_PREFIX
from tenants.routing import active
from tenants.routing.pool import pool, return_connection

# How long ending threads may take. Only a leak makes anyone wait that long.
PATIENCE_S = 15.0


def found() -> list[str]:
    """Return a phrase for each leak of this thread; if there is none, one phrase about the tenant connections, if any,
    that are still in use after `PATIENCE_S` seconds.
    """
    return list(_of_this_thread()) or _of_any_thread()


def repair() -> None:
    """Repair what `found` finds, so that the next tests start cleanly."""
    gc.enable()
    active._frame.set(None)
    actors._actor.set(actors.SYSTEM)
    for alias in [alias for alias in connections.settings if alias.startswith(TENANT_PREFIX)]:
        return_connection(alias)
    if connections["default"].in_atomic_block:
        connections["default"].close()
        del connections["default"]
    for held in _held():
        _end(held)


def _of_this_thread() -> Iterator[str]:
    tenant = active.current_tenant_or_none()
    if tenant is not None:
        yield f"tenant {tenant.id} is still active"
    if connections["default"].in_atomic_block:
        yield "a transaction of the control database is still open"
    if not gc.isenabled():
        yield "garbage is no longer collected"
    if actors.current_actor() != actors.SYSTEM:
        yield f"{actors.current_actor().user_id} is still the actor"


def _of_any_thread() -> list[str]:
    if wait_until(lambda: not _held(), PATIENCE_S):
        return []
    databases = ", ".join(sorted(held.info.dbname for held in _held()))
    threads = ", ".join(
        sorted(thread.name for thread in threading.enumerate() if thread is not threading.main_thread())
    )
    return [f"connections to tenants' databases are still in use ({databases}); threads that run: {threads}"]


def _held() -> list[Any]:
    """Return the driver's connections that were taken from the pool and not returned."""
    if pool._in_use:
        # A thread that has ended may have left its connection in a cycle.
        gc.collect()
    peeked = [used.finalizer.peek() for used in list(pool._in_use.values())]
    return [alive[0] for alive in peeked if alive is not None]


def _end(held: Any) -> None:
    """Close the connection, so that the thread that uses it fails, and free its place in the pool."""
    if not held.closed:
        with socket.socket(fileno=os.dup(held.fileno())) as wire, suppress(OSError):
            wire.shutdown(socket.SHUT_RDWR)
    used = pool._in_use.pop(id(held), None)
    if used is not None:
        used.finalizer.detach()
