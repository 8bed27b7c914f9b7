"""Roles: the owner of all tables, the tenants' group, each tenant's login."""

from __future__ import annotations

from typing import LiteralString
from urllib.parse import quote, urlsplit, urlunsplit

from django.utils.translation import gettext as _
from psycopg import sql

from tenants.cluster.location import DatabaseLocation
from tenants.cluster.session import Session
from tenants.errors import ServerError

MINIMUM_SERVER_VERSION = 140000
# `scram_iterations` can be set.
SCRAM_ITERATIONS_VERSION = 160000

CREATE_GROUP: LiteralString = """
DO $$ BEGIN
    CREATE ROLE {role} NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$
"""


class Roles(Session):
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

        Only the holder of the lock on that work may call this.
        """
        query = (
            "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity"
            " WHERE application_name = %s AND pid <> pg_backend_pid()"
        )
        self._scalar(query, self._application)

    def _verifier(self, role: str, password: str) -> str:
        """Return what the server keeps instead of the password, which it never sees."""
        if self._connection.info.server_version >= SCRAM_ITERATIONS_VERSION:
            # Iterations slow down the guessing of passwords that people choose. Ours are 256 random bits, so they would
            # only slow down each of our own connections.
            self._connection.execute("SET scram_iterations = 1")
        return self._connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()

    def role_exists(self, role: str) -> bool:
        return bool(self._scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s)", role))

    def drop_role(self, role: str) -> None:
        if self.role_exists(role):
            self._execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))

    def roles_named(self, prefix: str) -> list[str]:
        """Return the names of the roles that begin with `prefix`."""
        return [row[0] for row in self._rows("SELECT rolname FROM pg_roles WHERE starts_with(rolname, %s)", [prefix])]

    def location(self, role: str, password: str, *, database: str | None = None) -> DatabaseLocation:
        """Return the URL under which a role reaches its database: the server's, with the role's name and password.

        A tenant's role and database are called alike; `database` is another one.
        """
        name = role if database is None else database
        parts = urlsplit(self.server.admin_url)
        host = parts.netloc.rpartition("@")[2]
        netloc = f"{quote(role, safe='')}:{quote(password, safe='')}@{host}"
        return DatabaseLocation(name, role, password, urlunsplit(parts._replace(netloc=netloc, path=f"/{name}")))
