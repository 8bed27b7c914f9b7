"""Connections to tenant databases: aliases added on first use, and a limit on how many are open in this process.

Django keeps a connection per thread and alias, which with thousands of tenants would mean thousands of open
connections. So when a tenant's outermost `tenant_context` ends, its connection is returned to one pool for the whole
process. The pool keeps the most recently used connections warm and closes the least recently used
(docs/adr/0003-bounded-connections.md).
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import environ
from django.conf import settings
from django.db import connections

from config.base.database_session import command_name, parameters
from tenants.errors import InvalidDatabaseURL, TenantConnectionsExhausted

if TYPE_CHECKING:
    from tenants.models import Tenant

ENGINE = "tenants.routing.backend"
# A step uses its connection for a few milliseconds at a time, and opening one takes longer than that.
EVICTION_WAIT_S = 0.1


def use_tenant(tenant: Tenant) -> None:
    """On first use or after a change, configure the alias from the tenant's row, and close its idle connections.

    Raises `InvalidDatabaseURL`.
    """
    generation = f"{tenant.connection_version}:{hash((tenant.database_url, tenant.identity))}"
    if generation_of(tenant.alias) == generation:
        return
    config = connection_settings(tenant)
    config.update(ENGINE=ENGINE, CONN_MAX_AGE=0, TENANT_ID=tenant.id, IDENTITY=tenant.identity, GENERATION=generation)
    config.update(CONNECTION_VERSION=tenant.connection_version)
    return_connection(tenant.alias)
    add_alias(tenant.alias, config)
    # Must come last: connections that other threads return from now on have an older generation, so `take_back` closes
    # them.
    pool.discard(tenant.alias)


def connection_settings(tenant: Tenant) -> dict[str, Any]:
    """Return Django's settings for the tenant's URL; raise `InvalidDatabaseURL`, without quoting it, if invalid."""
    if not tenant.database_url.startswith(("postgresql://", "postgres://")):
        raise InvalidDatabaseURL(tenant.id)
    try:
        parsed: dict[str, Any] = environ.Env.db_url_config(tenant.database_url)
    except Exception as error:  # django-environ passes on whatever urllib and its own lookups raise
        raise InvalidDatabaseURL(tenant.id) from error
    if not parsed.get("NAME"):
        raise InvalidDatabaseURL(tenant.id)
    given = parsed.get("OPTIONS", {})
    ours = parameters(settings.DATABASE_LIMITS, inherited=str(given.get("options", "")))
    parsed["OPTIONS"] = {"application_name": command_name(), **given, **ours}
    return parsed


def add_alias(alias: str, config: dict[str, Any]) -> None:
    """Make `connections[alias]` exist with `config`, in every thread that has not opened it yet."""
    complete = {"default": connections.settings["default"], alias: config}
    connections.settings[alias] = connections.configure_settings(complete)[alias]


def generation_of(alias: str) -> str | None:
    """Return the generation of the tenant's row that the alias uses; None if this process has never used it."""
    config = connections.settings.get(alias)
    return config["GENERATION"] if config else None


def version_of(alias: str) -> int | None:
    """Return the `connection_version` that the tenant's row had when this thread's connection was configured.

    If the row has another one by now, the connection may lead to a database that was replaced. None for a connection
    as the owner (`tenants.routing.owner_connection`), which no row governs.
    """
    version: int | None = connections[alias].settings_dict.get("CONNECTION_VERSION")
    return version


def return_connection(alias: str) -> None:
    """Put this thread's connection, if it has one, back into the pool.

    It is closed instead if it is inside a transaction, or if the tenant's row has changed since it was opened.
    """
    if alias in connections.settings:
        connections[alias].close()
        del connections[alias]


@dataclass(frozen=True)
class Idle:
    """A warm connection that is not in use."""

    alias: str
    # The generation of the tenant's row that it was opened for.
    generation: str
    connection: Any


@dataclass(frozen=True)
class InUse:
    """A connection that a thread is using."""

    alias: str
    # Frees the place if the thread drops the connection without returning it.
    finalizer: weakref.finalize[Any, Any]


class TenantConnectionPool:
    """The open tenant connections of one process: at most TENANT_CONNECTIONS_MAX, in use and idle together.

    `acquire` takes the tenant's warm connection or opens one. At the limit it closes the least recently used idle one,
    though not before it has waited EVICTION_WAIT_S for a connection of the same tenant, if another thread uses one. If
    all are in use, it waits up to TENANT_CONNECTION_WAIT_S, then raises `TenantConnectionsExhausted`.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._idle: list[Idle] = []
        self._in_use: dict[int, InUse] = {}
        self._opening = 0

    def acquire(self, alias: str, generation: str, open_connection: Callable[[], Any]) -> Any:
        """Return a driver connection to `alias` that no other thread uses."""
        warm = self._take_or_reserve(alias, generation)
        if warm is not None:
            return warm
        try:
            connection = open_connection()
        except BaseException:
            with self._condition:
                self._opening -= 1
                self._condition.notify_all()
            raise
        with self._condition:
            self._opening -= 1
            self._mark_in_use(alias, connection)
        return connection

    def take_back(self, alias: str, generation: str, connection: Any, *, reusable: bool) -> None:
        """Take `connection` back: keep it warm if `reusable` and the tenant's row is unchanged; otherwise close it."""
        with self._condition:
            if reusable and generation_of(alias) == generation:
                self._idle.append(Idle(alias, generation, connection))
                self._forget(connection)
                return
        connection.close()
        with self._condition:
            self._forget(connection)

    def _forget(self, connection: Any) -> None:
        used = self._in_use.pop(id(connection), None)
        if used is not None:
            used.finalizer.detach()
        # All of them: those waiting for this tenant's connection, and those waiting for a place.
        self._condition.notify_all()

    def discard(self, alias: str) -> None:
        """Close every idle connection to `alias`."""
        with self._condition:
            stale = [idle for idle in self._idle if idle.alias == alias]
            self._idle = [idle for idle in self._idle if idle.alias != alias]
            self._condition.notify_all()
        for idle in stale:
            idle.connection.close()

    def abandon(self) -> None:
        """Forget everything without closing: after a fork the sockets belong to the parent."""
        self.__init__()  # type: ignore[misc]

    def count(self) -> int:
        """Return how many connections are open or being opened."""
        with self._condition:
            return self._count()

    def _count(self) -> int:
        return len(self._idle) + len(self._in_use) + self._opening

    def _take_or_reserve(self, alias: str, generation: str) -> Any | None:
        """Return a warm connection; or reserve a place for a new one, and return None."""
        started, evicted = time.monotonic(), []
        with self._condition:
            while (warm := self._take(alias, generation)) is None:
                if self._count() < settings.TENANT_CONNECTIONS_MAX:
                    self._opening += 1
                    break
                waited_s, patience_s = time.monotonic() - started, self._patience_s(alias)
                if self._idle and waited_s >= patience_s:
                    evicted.append(self._idle.pop(0))
                elif waited_s >= settings.TENANT_CONNECTION_WAIT_S:
                    raise TenantConnectionsExhausted(alias, settings.TENANT_CONNECTIONS_MAX)
                else:
                    limit_s = patience_s if self._idle else settings.TENANT_CONNECTION_WAIT_S
                    self._condition.wait(limit_s - waited_s)
        for idle in evicted:
            idle.connection.close()
        return warm

    def _take(self, alias: str, generation: str) -> Any | None:
        for index in range(len(self._idle) - 1, -1, -1):
            idle = self._idle[index]
            if idle.alias == alias and idle.generation == generation:
                del self._idle[index]
                self._mark_in_use(alias, idle.connection)
                return idle.connection
        return None

    def _patience_s(self, alias: str) -> float:
        """Return how long to wait before closing another tenant's idle connection."""
        is_used = any(used.alias == alias for used in self._in_use.values())
        return min(EVICTION_WAIT_S, settings.TENANT_CONNECTION_WAIT_S) if is_used else 0.0

    def _mark_in_use(self, alias: str, connection: Any) -> None:
        # A thread that ends without leaving its context drops the connection; the finalizer then frees its place.
        finalizer = weakref.finalize(connection, self._dropped, id(connection))
        finalizer.atexit = False
        self._in_use[id(connection)] = InUse(alias, finalizer)

    def _dropped(self, key: int) -> None:
        with self._condition:
            self._in_use.pop(key, None)
            self._condition.notify_all()


pool = TenantConnectionPool()
os.register_at_fork(after_in_child=pool.abandon)
