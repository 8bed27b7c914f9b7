"""Temporary logins: guests, which own a database that is not trusted yet, and deputies, which act for other roles.

The administrator enters only the maintenance database. Work inside another database that needs more than its owner's
rights is done by a deputy: a separate login that is a member of exactly the roles that it acts for.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from django.utils.translation import gettext as _
from psycopg import sql

from tenants.errors import ServerError
from tenants.servers.session.databases import Databases
from tenants.servers.session.location import location_on


class Guests(Databases):
    def ensure_guest(self, role: str, password: str) -> None:
        """Create a login role anew, without any membership; it may do anything in the database that it is given."""
        self.drop_guest(role)
        self._create_login(role, password)
        # Membership is needed to give the role a database, and later to reassign what it owns.
        self._join(role)

    def drop_guest(self, role: str) -> None:
        """Drop the role; its database must have been dropped or handed over (`hand_over`)."""
        self.drop_role(_deputy_of(role))
        self.drop_role(role)

    def lend(self, database: str, role: str) -> None:
        """Make `role` the owner of a database while its content is not trusted."""
        names = sql.Identifier(database), sql.Identifier(role)
        self._execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(*names))

    def hand_over(self, database: str, role: str) -> None:
        """Transfer everything that `role` owns, including the database, to the owner; `role` can then no longer log in.

        The database comes first: REASSIGN OWNED processes objects in an unknown order, and transfers a function in
        `public` only to a role that may create one there, such as the database's owner.
        """
        guest, owner, name = sql.Identifier(role), sql.Identifier(self.owner), sql.Identifier(database)
        # The guest may have set itself a password that someone knows.
        self._execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(guest))
        self._end_sessions_of(role)
        self._execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(name, owner))
        self._forget_grants(database)
        self._execute(sql.SQL("ALTER DATABASE {} RESET ALL").format(name))
        self._execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT -1 IS_TEMPLATE false").format(name))
        with self.deputy(database, _deputy_of(role), role, self.owner) as connection:
            connection.execute(sql.SQL("REASSIGN OWNED BY {} TO {}").format(guest, owner))
            connection.execute(sql.SQL("DROP OWNED BY {}").format(guest))

    @contextmanager
    def deputy(self, database: str, name: str, *roles: str) -> Iterator[psycopg.Connection]:
        """Yield a session (autocommit) in `database` as a login called `name` that is a member of `roles` only.

        Database errors in the block become `ServerError`. The login is dropped afterwards; one left behind by a killed
        process is replaced.
        """
        self.drop_role(name)
        password = secrets.token_urlsafe(32)
        self._create_login(name, password)
        try:
            for role in roles:
                self._execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(name)))
            with self._entered(location_on(self.server, name, password, database).url) as connection:
                yield connection
        except psycopg.Error as error:
            raise self._refused(error) from error
        finally:
            self.drop_role(name)

    def require_endable(self, database: str) -> None:
        """Raise `ServerError` if a superuser's prepared transaction would keep the database from being dropped."""
        for gid, owner, is_superuser in self._prepared_in(database):
            if is_superuser:
                raise self._prepared_by_superuser(gid, owner, database)

    def roll_back_prepared(self, database: str) -> None:
        """Roll back every prepared transaction of the database, whichever of our roles prepared it.

        Raises `ServerError`, and rolls nothing back, if one is a superuser's: only superusers can end it.
        """
        self.require_endable(database)
        database_owner = str(
            self._scalar("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s", database)
        )
        for gid, owner, _is_superuser in self._prepared_in(database):
            # The database's owner can connect even if the role itself no longer can.
            with self.deputy(database, _deputy_of(owner), *{owner, database_owner}) as connection:
                # Only the role that prepared it, or a superuser, may end it.
                connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(owner)))
                connection.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))

    def _prepared_in(self, database: str) -> list[tuple[str, str, bool]]:
        """Return (gid, owner, whether the owner is a superuser) for each transaction prepared in the database."""
        query = (
            "SELECT x.gid, x.owner::text, r.rolsuper"
            "  FROM pg_prepared_xacts AS x JOIN pg_roles AS r ON r.rolname = x.owner"
            " WHERE x.database = %s ORDER BY x.gid"
        )
        return [(gid, owner, is_superuser) for gid, owner, is_superuser in self._rows(query, [database])]

    def _prepared_by_superuser(self, gid: str, owner: str, database: str) -> ServerError:
        return ServerError(
            _(
                "Superuser %(owner)s has prepared transaction %(gid)s in database %(database)s of server %(name)s. Only"
                " a superuser can end it."
            )
            % {"database": database, "name": self.server.name, "owner": owner, "gid": gid},
            hint=_("As a superuser, in that database, run: ROLLBACK PREPARED '%(gid)s';") % {"gid": gid},
            code="prepared_transaction_foreign",
        )

    def _create_login(self, role: str, password: str) -> None:
        verifier = sql.Literal(self._verifier(role, password))
        self._execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), verifier))

    def _forget_grants(self, database: str) -> None:
        """Revoke access to the database from all but its owner: the previous owner may have let others in."""
        query = (
            "SELECT DISTINCT pg_get_userbyid(grantee) FROM pg_database, aclexplode(datacl)"
            " WHERE datname = %s AND grantee NOT IN (0, datdba)"
        )
        name = sql.Identifier(database)
        self._execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))
        for (role,) in self._rows(query, [database]):
            self._execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM {}").format(name, sql.Identifier(role)))


def _deputy_of(role: str) -> str:
    # PostgreSQL's limit is 63 bytes.
    return f"{role[:56]}_deputy"
