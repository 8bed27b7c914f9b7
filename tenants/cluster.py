"""What only an administrator of a PostgreSQL server can do: roles, databases, grants. The one module with raw psycopg.

Every statement can be repeated: what is there already is left or brought to the wanted state, so that an operation that
was cut off can simply run again. Names go through `psycopg.sql.Identifier`; passwords reach the server as verifiers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import LiteralString
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import psycopg
from django.utils.translation import gettext as _
from psycopg import sql

from audit.context import Actor
from tenants.errors import ServerError, TenantIdentityMismatch, TenantUnreachable, reason_of
from tenants.models import DatabaseServer, Tenant

MINIMUM_SERVER_VERSION = 140000
# `scram_iterations` can be set.
SCRAM_ITERATIONS_VERSION = 160000
CONNECT_TIMEOUT_S = 10
# Serialises the building of templates on one server. Advisory locks count per database, so it is always taken in the
# server's maintenance database.
TEMPLATE_LOCK = 0x5E06E17E

CREATE_GROUP: LiteralString = """
DO $$ BEGIN
    CREATE ROLE {role} NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$
"""


@dataclass(frozen=True)
class DatabaseLocation:
    """Where a database is and who connects to it; `url` holds the password, so it never reaches a message."""

    database: str
    role: str
    password: str
    url: str


class Cluster:
    """An administrator's session on one server (autocommit, in the maintenance database of its admin URL).

    `work` names what it is for, such as a tenant's id, so that the sessions of a killed predecessor can be told.
    """

    def __init__(self, server: DatabaseServer, prefix: str, work: str = "") -> None:
        self.server = server
        self._application = f"{prefix} {work}".strip()[:63]
        self.owner = f"{prefix}_owner"
        self.group = f"{prefix}_tenant"
        self._connection = self._connect()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *exc: object) -> None:
        self._connection.close()

    # -- roles ---------------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Create the owner and the group role. Once per server."""
        if self._connection.info.server_version < MINIMUM_SERVER_VERSION:
            raise ServerError(
                _("Database server %(name)s runs PostgreSQL %(version)d; 14 or newer is needed.")
                % {"name": self.server.name, "version": self._connection.info.server_version // 10000}
            )
        for role in (self.owner, self.group):
            self._execute(sql.SQL(CREATE_GROUP).format(role=sql.Identifier(role)))
        if not self._scalar("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
            # An administrator who is no superuser must be a member of the owner to create databases for it.
            self._execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(self.owner)))

    def end_predecessors(self) -> None:
        """End what a killed process left running under the same name: its CREATE DATABASE would outlive it.

        Only the holder of the tenant's lock may call this.
        """
        query = (
            "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity"
            " WHERE application_name = %s AND pid <> pg_backend_pid()"
        )
        self._scalar(query, self._application)

    def ensure_login(self, role: str, password: str) -> None:
        """Create the tenant's login role, or reset its password."""
        if self._connection.info.server_version >= SCRAM_ITERATIONS_VERSION:
            # Iterations slow down the guessing of passwords that people choose. Ours are 256 random bits, so they would
            # only slow down each of our own connections.
            self._connection.execute("SET scram_iterations = 1")
        encrypted = self._connection.pgconn.encrypt_password(
            password.encode(), role.encode(), b"scram-sha-256"
        ).decode()
        if self.role_exists(role):
            statement = sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}")
        else:
            statement = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE {}")
        self._execute(statement.format(sql.Identifier(role), sql.Literal(encrypted), sql.Identifier(self.group)))

    def role_exists(self, role: str) -> bool:
        return bool(self._scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s)", role))

    def drop_role(self, role: str) -> None:
        if self.role_exists(role):
            self._execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))

    # -- databases -----------------------------------------------------------------------------------------------------

    def database_exists(self, name: str) -> bool:
        return bool(self._scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = %s)", name))

    def template_is_ready(self, name: str) -> bool:
        return bool(
            self._scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = %s AND NOT datallowconn)", name)
        )

    @contextmanager
    def template_lock(self) -> Iterator[None]:
        self._execute(sql.SQL("SELECT pg_advisory_lock({})").format(TEMPLATE_LOCK))
        try:
            yield
        finally:
            self._execute(sql.SQL("SELECT pg_advisory_unlock({})").format(TEMPLATE_LOCK))

    def create_empty_database(self, name: str) -> None:
        """Create a database of the owner's that nobody else may enter."""
        self._execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING 'UTF8'").format(
                sql.Identifier(name), sql.Identifier(self.owner)
            )
        )
        self._execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))

    def close_template(self, building: str, name: str) -> None:
        """Give a finished template its name and forbid connections, so that parallel clones never meet one."""
        old, new = sql.Identifier(building), sql.Identifier(name)
        with self._connection.transaction():
            self._execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(old, new))
            self._execute(sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS false").format(new))

    def clone(self, template: str, name: str) -> None:
        """Create a database from `template`; nobody can connect until `open_to` lets its one role in."""
        self._execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {} ALLOW_CONNECTIONS false").format(
                sql.Identifier(name), sql.Identifier(self.owner), sql.Identifier(template)
            )
        )

    def open_to(self, name: str, role: str) -> None:
        """Let `role`, and no other tenant, connect to the database."""
        database = sql.Identifier(name)
        with self._connection.transaction():
            self._execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
            self._execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, sql.Identifier(role)))
            self._execute(sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS true").format(database))

    def drop_database(self, name: str) -> None:
        """Drop the database, ending its connections."""
        if self.database_exists(name):
            self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    # -- inside a tenant's database ------------------------------------------------------------------------------------

    @contextmanager
    def as_owner(self, database: str) -> Iterator[psycopg.Connection]:
        """Yield a transaction in `database` as the owner role."""
        with self._connect(database) as connection:
            connection.autocommit = False
            connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(self.owner)))
            yield connection

    def grant_to_tenants(self, database: str, privileges: Iterable[tuple[str, Sequence[LiteralString]]]) -> None:
        """Give the group role its (table, privileges) in `database`; clones carry them along."""
        group = sql.Identifier(self.group)
        with self.as_owner(database) as connection:
            connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
            connection.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(group))
            connection.execute(sql.SQL("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {}").format(group))
            for table, names in privileges:
                if names:
                    granted = sql.SQL(", ").join([sql.SQL(name) for name in names])
                    statement = sql.SQL("GRANT {} ON {} TO {}").format(granted, sql.Identifier(table), group)
                    connection.execute(statement)

    # -- where things are ----------------------------------------------------------------------------------------------

    def location(self, name: str, password: str) -> DatabaseLocation:
        """Return the URL under which a tenant reaches its database: the server's, with its own role and database."""
        parts = urlsplit(self.server.admin_url)
        host = parts.netloc.rpartition("@")[2]
        netloc = f"{quote(name, safe='')}:{quote(password, safe='')}@{host}"
        return DatabaseLocation(name, name, password, urlunsplit(parts._replace(netloc=netloc, path=f"/{name}")))

    def _connect(self, database: str | None = None) -> psycopg.Connection:
        url = self.server.admin_url
        if database is not None:
            url = urlunsplit(urlsplit(url)._replace(path=f"/{quote(database, safe='')}"))
        try:
            return psycopg.connect(
                url, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S, application_name=self._application
            )
        except psycopg.ProgrammingError as error:
            # libpq quotes what it cannot read, which may be the password.
            raise ServerError(
                _("The administrator's URL of database server %(name)s cannot be read.") % {"name": self.server.name},
                hint=_("It has the form postgresql://user:password@host:port/postgres; encode special characters."),
            ) from error
        except psycopg.Error as error:
            raise ServerError(
                _("Database server %(name)s cannot be reached: %(reason)s.")
                % {"name": self.server.name, "reason": reason_of(error)},
                hint=_("Check its administrator's URL in the admin."),
            ) from error

    def _execute(self, statement: sql.Composed) -> None:
        try:
            self._connection.execute(statement)
        except psycopg.Error as error:
            raise ServerError(
                _("Database server %(name)s refused: %(reason)s.")
                % {"name": self.server.name, "reason": reason_of(error)}
            ) from error

    def _scalar(self, query: LiteralString, *parameters: str) -> object:
        row = self._connection.execute(query, parameters).fetchone()
        return row[0] if row else None


def parse_location(url: str) -> DatabaseLocation:
    """Read database, role and password back from a tenant's URL."""
    parts = urlsplit(url)
    return DatabaseLocation(
        unquote(parts.path.lstrip("/")), unquote(parts.username or ""), unquote(parts.password or ""), url
    )


def bind_identity(tenant: Tenant, actor: Actor) -> None:
    """Connect as the tenant itself and have its database bound to it, audit chain included; see `bind_tenant`.

    Repeating it changes nothing. Raises `TenantUnreachable`, or `TenantIdentityMismatch` where it is another's.
    """
    try:
        with psycopg.connect(tenant.database_url, connect_timeout=CONNECT_TIMEOUT_S) as connection:
            values = (tenant.id, tenant.identity, actor.user_id, actor.operation_id)
            bound = connection.execute(
                "SELECT tenant_id, identity FROM public.bind_tenant(%s, %s, %s, %s)", values
            ).fetchone()
    except psycopg.Error as error:
        raise TenantUnreachable(tenant.id, reason_of(error)) from error
    if bound != (tenant.id, tenant.identity):
        raise TenantIdentityMismatch(tenant.id, f"it belongs to {bound[0] if bound else 'nobody'}")
