"""Locks: who holds them in a database, which transactions are prepared, and the lock for building templates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from django.utils.translation import gettext as _
from psycopg import sql

from tenants.errors import ServerError
from tenants.servers.session.location import owner_url
from tenants.servers.session.wal import Log

# Serializes the building and dropping of templates on one server. Advisory locks are per database, so this one is
# always taken in the server's maintenance database.
TEMPLATE_LOCK = 0x5E06E17E
# The lock's holder runs all migrations once.
TEMPLATE_WAIT: LiteralString = "10min"

# Locks on relations of a database (%s), the strongest first, then the oldest. A prepared transaction has no process;
# it shares its `virtualtransaction` with the lock on its own id (PostgreSQL manual, pg_locks).
HOLDERS: LiteralString = """
SELECT held.relation, held.mode, held.pid,
       coalesce(session.usename, prepared.owner)::pg_catalog.text,
       coalesce(session.application_name, ''), coalesce(session.state, ''),
       extract(epoch FROM clock_timestamp() - coalesce(session.xact_start, prepared.prepared))::pg_catalog.int4,
       prepared.gid
  FROM pg_catalog.pg_locks AS held
  LEFT JOIN pg_catalog.pg_stat_activity AS session ON session.pid = held.pid
  LEFT JOIN pg_catalog.pg_locks AS itself
         ON held.pid IS NULL AND itself.pid IS NULL AND itself.virtualtransaction = held.virtualtransaction
        AND itself.locktype = 'transactionid' AND itself.granted AND itself.mode = 'ExclusiveLock'
  LEFT JOIN pg_catalog.pg_prepared_xacts AS prepared ON prepared.transaction = itself.transactionid
 WHERE held.locktype = 'relation' AND held.granted AND held.relation >= 16384::pg_catalog.oid
   AND held.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = %s)
 ORDER BY array_position(ARRAY['AccessExclusiveLock', 'ExclusiveLock', 'ShareRowExclusiveLock', 'ShareLock',
                               'ShareUpdateExclusiveLock', 'RowExclusiveLock', 'RowShareLock', 'AccessShareLock'],
                         held.mode),
          coalesce(session.xact_start, prepared.prepared), held.relation
 LIMIT 1000
"""
TABLES: LiteralString = """
SELECT oid, relname::pg_catalog.text FROM pg_catalog.pg_class
 WHERE oid = ANY(%s::pg_catalog.oid[]) AND relkind IN ('r', 'p', 'v', 'm')
"""
PREPARED: LiteralString = """
SELECT gid, database::pg_catalog.text, owner::pg_catalog.text,
       extract(epoch FROM clock_timestamp() - prepared)::pg_catalog.int4
  FROM pg_catalog.pg_prepared_xacts ORDER BY prepared
"""
ADVISORY_HOLDERS: LiteralString = """
SELECT session.pid, session.application_name
  FROM pg_catalog.pg_locks AS held JOIN pg_catalog.pg_stat_activity AS session ON session.pid = held.pid
 WHERE held.locktype = 'advisory' AND held.granted AND held.classid = 0::pg_catalog.oid AND held.objsubid = 1
   AND held.objid = %s::pg_catalog.oid
   AND held.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
   AND session.pid <> pg_catalog.pg_backend_pid()
"""


@dataclass(frozen=True)
class LockHolder:
    """Who holds the strongest lock on one of a database's tables."""

    table: str
    # "AccessExclusiveLock" and the like.
    mode: str
    # The id of the server process; None for a prepared transaction.
    pid: int | None
    role: str | None
    application: str
    # "idle in transaction" and the like; "" if we are not allowed to see it.
    state: str
    # Age of its transaction; None if we are not allowed to see it.
    age_s: int | None
    # The prepared transaction's name.
    gid: str | None


@dataclass(frozen=True)
class PreparedTransaction:
    gid: str
    database: str
    role: str
    age_s: int


class Locks(Log):
    def lock_holder(self, database: str) -> LockHolder | None:
        """Return the most likely cause of a lock timeout in the database.

        The locks are visible from this session, but the names of tables only inside the database. Returns None if no
        table is locked (any more), or if the database refuses another session. Raises `ServerError`, also if the owner
        has no login.
        """
        held = self._rows(HOLDERS, [database])
        if not held:
            return None
        try:
            with self._entered(owner_url(self.server, database)) as connection:
                tables: dict[int, str] = dict(connection.execute(TABLES, [[row[0] for row in held]]).fetchall())
        except psycopg.Error:
            return None
        return next((LockHolder(tables[row[0]], *row[1:]) for row in held if row[0] in tables), None)

    def prepared(self) -> list[PreparedTransaction]:
        """Return every prepared transaction of the server, oldest first."""
        return [PreparedTransaction(*row) for row in self._rows(PREPARED)]

    @contextmanager
    def template_lock(self) -> Iterator[None]:
        """Hold the lock on the server's templates, so that no other process builds, adds or drops one.

        Raises `ServerError` if another process still holds the lock after `TEMPLATE_WAIT`.
        """
        self._execute(sql.SQL("SET lock_timeout = {}").format(sql.Literal(TEMPLATE_WAIT)))
        try:
            self._connection.execute(sql.SQL("SELECT pg_advisory_lock({})").format(TEMPLATE_LOCK))
        except psycopg.errors.LockNotAvailable as error:
            holders = ", ".join(f"{pid} ({name})" for pid, name in self._rows(ADVISORY_HOLDERS, [TEMPLATE_LOCK]))
            raise ServerError(
                (
                    _(
                        "The templates on server %(name)s were still locked by another process after %(wait)s:"
                        " %(holders)s."
                    )
                    if holders
                    else _("The templates on server %(name)s were still locked by another process after %(wait)s.")
                )
                % {"name": self.server.name, "wait": TEMPLATE_WAIT, "holders": holders},
                hint=_("Wait for it to finish, then try again."),
                code="template_busy",
            ) from error
        except psycopg.Error as error:
            raise self._refused(error) from error
        finally:
            self._execute(sql.SQL("SET lock_timeout = {}").format(sql.SQL("DEFAULT")))
        try:
            yield
        finally:
            self._execute(sql.SQL("SELECT pg_advisory_unlock({})").format(TEMPLATE_LOCK))
