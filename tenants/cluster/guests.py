"""Guests: login roles that own one database for the time in which what is in it is not trusted (`tenants.scratch`)."""

from __future__ import annotations

import psycopg
from psycopg import sql

from tenants.cluster.databases import Databases


class Guests(Databases):
    def ensure_guest(self, role: str, password: str) -> None:
        """Create a login role that belongs to nothing: it may do what it likes with the database that it is given."""
        self.drop_guest(role)
        statement = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
        self._execute(statement.format(sql.Identifier(role), sql.Literal(self._verifier(role, password))))
        if not self._scalar("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
            # To take from it what it owns, in the end.
            self._execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(role)))

    def drop_guest(self, role: str) -> None:
        """Drop the role; the database that it was given must be gone, or the owner's (`hand_over`)."""
        self.drop_role(role)

    def lend(self, database: str, role: str) -> None:
        """Make `role` the owner of a database, for as long as what it does there is not trusted."""
        names = sql.Identifier(database), sql.Identifier(role)
        self._execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(*names))

    def hand_over(self, database: str, role: str) -> None:
        """Make what `role` owns, the database included, the owner's."""
        guest, owner = sql.Identifier(role), sql.Identifier(self.owner)
        self._end_sessions_of(role)
        try:
            with self._connect(database) as connection:
                connection.execute(sql.SQL("REASSIGN OWNED BY {} TO {}").format(guest, owner))
                connection.execute(sql.SQL("DROP OWNED BY {}").format(guest))
        except psycopg.Error as error:
            raise self._refused(error) from error
        name = sql.Identifier(database)
        self._execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(name, owner))
        self._forget_grants(database)
        self._execute(sql.SQL("ALTER DATABASE {} RESET ALL").format(name))
        self._execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT -1 IS_TEMPLATE false").format(name))

    def _forget_grants(self, database: str) -> None:
        """Take the database from everybody but its owner: whoever owned it before may have let others in."""
        query = (
            "SELECT DISTINCT pg_get_userbyid(grantee) FROM pg_database, aclexplode(datacl)"
            " WHERE datname = %s AND grantee NOT IN (0, datdba)"
        )
        name = sql.Identifier(database)
        self._execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))
        for (role,) in self._rows(query, [database]):
            self._execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM {}").format(name, sql.Identifier(role)))
