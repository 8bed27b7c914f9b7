"""Connections to a database as the owner of its tables or, if the database's contents are not trusted yet, as a guest.

The session logs in as that role itself, so nothing that runs in it can become another role. The alias is
"owner:<database>:<number>"; it exists only inside the block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from urllib.parse import unquote

import environ
from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import Error

from config.base.database_session import parameters
from tenants.models import DatabaseServer
from tenants.routing.active import OWNER_PREFIX
from tenants.routing.pool import add_alias
from tenants.servers.lock_holders import lock_holders_named
from tenants.servers.session import application_name, owner_url

# Settings that those of a role or database must not override. JIT compilation costs more than any of our statements.
SESSION = {
    "search_path": "public",
    "timezone": "UTC",
    "jit": "off",
    "statement_timeout": "0",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
}
# The same for a guest, whose database is only read, and only with PostgreSQL's own functions.
GUEST_SESSION = {**SESSION, "search_path": "pg_catalog,pg_temp", "default_transaction_read_only": "on"}

_numbers = count()


@contextmanager
def owner_connection(server: DatabaseServer, database: str, work: str) -> Iterator[BaseDatabaseWrapper]:
    """Yield Django's connection to `database` as the owner role (autocommit).

    `work` says what the connection is for, so that the sessions of a killed process can be found
    (`ServerSession.end_predecessors`). Raises `ServerError` if the server was not set up, and Django's
    `OperationalError` if the database rejects the login, or, as `DatabaseLocked`, if the block times out waiting for a
    lock.
    """
    url = owner_url(server, database)
    with _connection(url, database, work, SESSION) as connection, lock_holders_named(server, database):
        yield connection


@contextmanager
def guest_connection(url: str, database: str, work: str) -> Iterator[BaseDatabaseWrapper]:
    """Yield Django's connection to `database`, whose contents may be untrusted, as the role in `url`.

    The session is read-only, and RESTORE_STALL_S limits each statement: reading a table can run code that someone put
    there.
    """
    # 0 would be no limit.
    session = {**GUEST_SESSION, "statement_timeout": str(max(1, round(settings.RESTORE_STALL_S * 1000)))}
    with _connection(url, database, work, session) as connection:
        yield connection


@contextmanager
def _connection(url: str, database: str, work: str, session: Mapping[str, str]) -> Iterator[BaseDatabaseWrapper]:
    # Another thread, or a block around this one, may be connected to the same database as another role.
    alias = f"{OWNER_PREFIX}{database}:{next(_numbers)}"
    config = environ.Env.db_url_config(url)
    # A socket's folder is percent-encoded in the URL.
    config["HOST"] = unquote(config["HOST"])
    config["ENGINE"] = "django.db.backends.postgresql"
    given = config.get("OPTIONS", {})
    ours = parameters(settings.DATABASE_LIMITS, session=session, inherited=str(given.get("options", "")))
    config["OPTIONS"] = {**given, **ours, "application_name": application_name(work)}
    add_alias(alias, config)
    try:
        yield connections[alias]
    finally:
        with suppress(Error):  # the server may be gone, which was reported already
            connections[alias].close()
        del connections[alias]
        connections.settings.pop(alias, None)
