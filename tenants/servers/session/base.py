"""An administrator's session, whose database errors become `ServerError`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString, Self

import psycopg
import psycopg.conninfo
from django.conf import settings
from django.utils.translation import gettext as _
from psycopg import sql

from config.base.database_session import parameters
from tenants.errors import ServerError, reason_of
from tenants.models import DatabaseServer, database_prefix
from tenants.naming import owner_role


def connect(
    url: str, *, autocommit: bool = True, session: Mapping[str, str] | None = None, **keywords: str
) -> psycopg.Connection:
    """Open a psycopg connection with the limits that all our sessions have. Raises `psycopg.Error`.

    `session` holds further session settings.
    """
    given = psycopg.conninfo.conninfo_to_dict(url)
    ours = parameters(settings.DATABASE_LIMITS, session=session, inherited=str(given.get("options") or ""))
    return psycopg.connect(url, autocommit=autocommit, **{**ours, **keywords})


# Sessions in a database (%s): those of superusers that we cannot end, and all of any role.
SUPERUSERS_IN: LiteralString = """
SELECT a.pid, a.usename
  FROM pg_catalog.pg_stat_activity AS a JOIN pg_catalog.pg_roles AS r ON r.oid = a.usesysid
 WHERE a.datname = %s AND r.rolsuper AND a.pid <> pg_catalog.pg_backend_pid()
   AND NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
"""
END_SESSIONS_IN: LiteralString = """
SELECT count(pg_catalog.pg_terminate_backend(pid, 10000))
  FROM pg_catalog.pg_stat_activity
 WHERE datname = %s AND usesysid IS NOT NULL AND pid <> pg_catalog.pg_backend_pid()
"""
# The classes of SQLSTATE codes with which a server ends a connection (PostgreSQL manual, appendix A).
SERVER_GONE = ("08", "57P")


def application_name(work: str) -> str:
    """Return the application_name of our sessions for `work`: at most 63 characters, which is PostgreSQL's limit."""
    return f"{database_prefix()} {work}".strip()[:63]


class Session:
    """An administrator's autocommit session in the maintenance database, the one in the server's `admin_url`.

    `work` says what the session is for, so that sessions of a killed process can be recognized. Other roles can read
    it, so it must not contain a tenant's id (see `tenants.naming.work_name`).
    """

    def __init__(self, server: DatabaseServer, prefix: str, work: str = "") -> None:
        self.server = server
        self._application = application_name(work)
        self.owner = owner_role(prefix)
        self.group = f"{prefix}_tenant"
        self._connection = self._connect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._connection.close()

    @property
    def major_version(self) -> int:
        return self._connection.info.server_version // 10000

    def _connect(self) -> psycopg.Connection:
        try:
            return connect(self.server.admin_url, application_name=self._application)
        except psycopg.ProgrammingError as error:
            # libpq quotes what it cannot parse, which may be the password.
            raise ServerError(
                _("The administrator's URL of database server %(name)s is not valid.") % {"name": self.server.name},
                hint=_("Write postgresql://user:password@host:port/postgres; percent-encode special characters."),
                code="server_url_invalid",
            ) from error
        except psycopg.Error as error:
            raise ServerError(
                _("Database server %(name)s cannot be reached: %(reason)s.")
                % {"name": self.server.name, "reason": reason_of(error)},
                hint=_(
                    "Check the server and its administrator's URL; config/stack/roles.sql gives the administrator LOGIN"
                    " and CONNECT."
                ),
                code="server_unreachable",
            ) from error

    def _entered(self, url: str) -> psycopg.Connection:
        """Connect so that names resolve to PostgreSQL's own objects, even if others of the same name exist."""
        return connect(url, session={"search_path": "pg_catalog,pg_temp"}, application_name=self._application)

    def _execute(self, statement: sql.Composed) -> None:
        try:
            self._connection.execute(statement)
        except psycopg.Error as error:
            raise self._refused(error) from error

    def _scalar(self, query: LiteralString, *parameters: object) -> object:
        rows = self._rows(query, parameters)
        return rows[0][0] if rows else None

    def _rows(
        self, query: LiteralString | sql.Composed, parameters: Sequence[object] | Mapping[str, object] = ()
    ) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(query, parameters).fetchall()
        except psycopg.Error as error:
            raise self._refused(error) from error

    def _refused(self, error: psycopg.Error) -> ServerError:
        # An `OperationalError` with another code says, for example, that a lock is not available or the disk is full.
        if isinstance(error, psycopg.OperationalError) and (error.sqlstate or SERVER_GONE[0]).startswith(SERVER_GONE):
            return ServerError(
                _("The connection to database server %(name)s failed: %(reason)s.")
                % {"name": self.server.name, "reason": reason_of(error)},
                code="server_connection_lost",
            )
        return ServerError(
            _("Database server %(name)s rejected a statement: %(reason)s.")
            % {"name": self.server.name, "reason": reason_of(error)},
            code="server_refused",
        )

    def _end_sessions_of(self, role: str) -> None:
        query = "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity WHERE usename = %s"
        self._scalar(query, role)

    def _end_sessions_in(self, name: str) -> None:
        """End all sessions in the database; raise `ServerError` if one is a superuser's, unless we are superuser too.

        Autovacuum workers have no role; PostgreSQL ends them itself before it renames or drops a database.
        """
        for pid, role in self._rows(SUPERUSERS_IN, [name]):
            raise ServerError(
                _("Superuser %(role)s has a session in database %(database)s of server %(name)s (process %(pid)d).")
                % {"database": name, "name": self.server.name, "role": role, "pid": pid},
                hint=_("End that session, then try again."),
                code="superuser_session_open",
            )
        self._scalar(END_SESSIONS_IN, name)
