"""Inside a database as the owner of its tables: what migrations need.

The session logs in as the owner itself, so that nothing that runs in it can become anybody else. The application never
connects so. Alias "owner:<database>", in the thread that entered the context alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
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

# What a role's or database's own settings must not decide. JIT costs more than any of our statements.
SESSION = {
    "search_path": "public",
    "timezone": "UTC",
    "jit": "off",
    "statement_timeout": "0",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
}
# What a guest's must not decide besides: its database is read, as it is, and by PostgreSQL's own functions alone.
GUEST_SESSION = {**SESSION, "search_path": "pg_catalog,pg_temp", "default_transaction_read_only": "on"}


@contextmanager
def owner_connection(server: DatabaseServer, database: str, work: str) -> Iterator[BaseDatabaseWrapper]:
    """Yield Django's connection to `database` as the owner role (autocommit).

    `work` names what it is for, so that the sessions of a killed process can be told (`ServerSession.end_sessions`).
    Raises `ServerError` for a server that was not prepared, Django's `OperationalError` where the database does not let
    us in; `DatabaseLocked`, which is one too, where the block waited for a lock in vain.
    """
    url = owner_url(server, database)
    with _connection(url, database, work, SESSION) as connection, lock_holders_named(server, database):
        yield connection


@contextmanager
def guest_connection(url: str, database: str, work: str) -> Iterator[BaseDatabaseWrapper]:
    """Yield Django's connection to `database` as whoever its `url` names, who need not be trusted with more.

    It only reads, and no statement of it outlasts RESTORE_STALL_S: looking at a table may run what somebody put there.
    """
    session = {**GUEST_SESSION, "statement_timeout": str(int(settings.RESTORE_STALL_S * 1000))}
    with _connection(url, database, work, session) as connection:
        yield connection


@contextmanager
def _connection(url: str, database: str, work: str, session: Mapping[str, str]) -> Iterator[BaseDatabaseWrapper]:
    alias = OWNER_PREFIX + database
    config = environ.Env.db_url_config(url)
    # The folder of a socket, which a URL can only hold quoted.
    config["HOST"] = unquote(config["HOST"])
    config["ENGINE"] = "django.db.backends.postgresql"
    given = config.get("OPTIONS", {})
    ours = parameters(settings.DATABASE_LIMITS, session=session, inherited=str(given.get("options", "")))
    config["OPTIONS"] = {**given, **ours, "application_name": application_name(work)}
    add_alias(alias, config)
    try:
        yield connections[alias]
    finally:
        with suppress(Error):  # the server may be gone, which was told already
            connections[alias].close()
        del connections[alias]
        connections.settings.pop(alias, None)
