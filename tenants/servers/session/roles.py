"""Roles: the owner of all tables, the tenants' group, and each tenant's login."""

from __future__ import annotations

from hashlib import sha256
from typing import LiteralString

from django.utils.translation import gettext as _
from psycopg import sql

from tenants.errors import ServerError
from tenants.servers.session.location import DatabaseLocation, location_on
from tenants.servers.session.rights import Rights

MINIMUM_SERVER_VERSION = 150000
# The first version in which `scram_iterations` can be set.
SCRAM_ITERATIONS_VERSION = 160000

# Whether the administrator can let others use reserved connections; PostgreSQL 15 has none.
MAY_RESERVE: LiteralString = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_roles
                WHERE rolname = 'pg_use_reserved_connections'
                  AND pg_catalog.pg_has_role(current_user, oid, 'MEMBER WITH ADMIN OPTION'))
"""
CREATE_GROUP: LiteralString = """
DO $$ BEGIN
    CREATE ROLE {role} NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$
"""


class Roles(Rights):
    def prepare(self) -> None:
        """Create the owner and the group role if missing, and make the administrator a member of the owner.

        If the administrator can, it lets the owner use reserved connections. A new owner cannot log in until
        `let_owner_in` is called.

        If the server is too old or its administrator lacks a right, raises `ServerError` and changes nothing.
        """
        if self._connection.info.server_version < MINIMUM_SERVER_VERSION:
            raise ServerError(
                _("Database server %(name)s runs PostgreSQL %(version)d; 15 or newer is needed.")
                % {"name": self.server.name, "version": self._connection.info.server_version // 10000},
                code="server_version_unsupported",
            )
        self.require_needed()
        for role in (self.owner, self.group):
            self._execute(sql.SQL(CREATE_GROUP).format(role=sql.Identifier(role)))
        # Only a member of the owner role can create databases for it.
        self._join(self.owner)
        if self._scalar(MAY_RESERVE):
            self._execute(sql.SQL("GRANT pg_use_reserved_connections TO {}").format(sql.Identifier(self.owner)))

    def let_owner_in(self, password: str) -> None:
        """Allow the owner to log in with `password`; store its digest in the role's comment, which anyone can read."""
        owner = sql.Identifier(self.owner)
        verifier = sql.Literal(self._verifier(self.owner, password))
        with self._connection.transaction():
            self._execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(owner, verifier))
            self._execute(sql.SQL("COMMENT ON ROLE {} IS {}").format(owner, sql.Literal(_digest(password))))

    def lets_owner_in(self, password: str) -> bool:
        """Return whether this is the owner's current password, by its digest."""
        query = "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = %s AND rolcanlogin"
        return self._scalar(query, self.owner) == _digest(password)

    def _join(self, role: str) -> None:
        """Make the administrator a member of `role`; a superuser needs no membership."""
        if not self._scalar("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
            self._execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(role)))

    def end_predecessors(self) -> None:
        """End the sessions that a killed process left under the same name: a CREATE DATABASE outlives its process.

        Only the holder of the lock for that work may call this.
        """
        query = (
            "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity"
            " WHERE application_name = %s AND pid <> pg_backend_pid()"
        )
        self._scalar(query, self._application)

    def _verifier(self, role: str, password: str) -> str:
        """Return the SCRAM verifier, so that the server never sees the password."""
        if self._connection.info.server_version >= SCRAM_ITERATIONS_VERSION:
            # Iterations slow down the guessing of passwords that people choose. Ours are 256 random bits: iterations
            # would only slow down our own connections.
            self._connection.execute("SET scram_iterations = 1")
        return self._connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()

    def role_exists(self, role: str) -> bool:
        return bool(self._scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s)", role))

    def drop_role(self, role: str) -> None:
        if self.role_exists(role):
            self._execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))

    def roles_named(self, prefix: str) -> list[str]:
        """Return the role names that start with `prefix`."""
        return [row[0] for row in self._rows("SELECT rolname FROM pg_roles WHERE starts_with(rolname, %s)", [prefix])]

    def location(self, role: str, password: str, *, database: str | None = None) -> DatabaseLocation:
        """Return where a role's database is: the server's URL with the role's name and password.

        A tenant's database has the same name as its role; `database` names a different database.
        """
        return location_on(self.server, role, password, role if database is None else database)


def _digest(password: str) -> str:
    """Return the password's sha256 (hex), from which no one can guess the password: it is 256 random bits."""
    return sha256(password.encode()).hexdigest()
