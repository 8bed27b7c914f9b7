"""Databases: create, clone, swap and drop them; control who may connect; list prepared transactions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString

from psycopg import sql

from tenants.servers.session.logins import Logins

# Created by config/stack/roles.sql: an empty database without advisory locks or large objects.
BASE = "seo_gen_base"
DOORS: LiteralString = """
SELECT d.datname,
       d.datallowconn AND d.datconnlimit <> 0,
       coalesce(role.rolcanlogin, false),
       coalesce(has_database_privilege(role.oid, d.oid, 'CONNECT'), false),
       coalesce(pg_has_role(role.oid, %(group)s, 'USAGE'), false),
       ARRAY(SELECT coalesce(nullif(item.grantee, 0::oid)::regrole::text, 'PUBLIC')
               FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS item
              WHERE item.privilege_type = 'CONNECT'
                AND item.grantee <> d.datdba AND item.grantee IS DISTINCT FROM role.oid
                AND (item.grantee = 0 OR pg_has_role(item.grantee, %(group)s, 'MEMBER')))
  FROM pg_database d
  LEFT JOIN pg_roles role ON role.rolname = d.datname
 WHERE d.datname = ANY(%(names)s)
"""


IN_TRANSACTION: LiteralString = """
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE usename = %s AND xact_start IS NOT NULL)
"""


@dataclass(frozen=True)
class Door:
    """Who may connect to a tenant's database."""

    # Whether the database accepts connections at all.
    is_open: bool
    # Whether the tenant's role exists and can log in.
    has_login: bool
    may_connect: bool
    # Whether it has the group role's privileges.
    in_group: bool
    # Who else may connect: everyone (PUBLIC), or another tenant's role.
    others: list[str]


class Databases(Logins):
    def database_exists(self, name: str) -> bool:
        return bool(self._scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = %s)", name))

    def template_is_ready(self, name: str) -> bool:
        return bool(
            self._scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = %s AND NOT datallowconn)", name)
        )

    def create_empty_database(self, name: str) -> None:
        """Create a database that belongs to the owner and that no one else may connect to."""
        names = (name, self.owner, BASE if self.has_base() else "template0")
        statement = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {} ENCODING 'UTF8'")
        self._execute(statement.format(*map(sql.Identifier, names)))
        self._execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))

    def has_base(self) -> bool:
        """Return whether the base database from config/stack/roles.sql exists and is a closed template."""
        query = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = %s AND datistemplate AND NOT datallowconn)"
        return bool(self._scalar(query, BASE))

    def close_template(self, building: str, name: str) -> None:
        """Give a finished template its final name and forbid connections, which would block parallel clones."""
        old, new = sql.Identifier(building), sql.Identifier(name)
        with self._connection.transaction():
            self._execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(old, new))
            self._execute(sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS false").format(new))

    def clone(self, template: str, name: str) -> None:
        """Create a database from `template`; no one can connect until `open_to` or `open_to_owner` is called."""
        self._execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {} ALLOW_CONNECTIONS false").format(
                sql.Identifier(name), sql.Identifier(self.owner), sql.Identifier(template)
            )
        )

    def open_to(self, name: str, role: str) -> None:
        """Allow `role`, but not PUBLIC, to connect to the database."""
        database = sql.Identifier(name)
        with self._connection.transaction():
            self._execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
            self._execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, sql.Identifier(role)))
            self._execute(sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS true").format(database))

    def open_to_owner(self, name: str) -> None:
        """Allow the owner, but not PUBLIC, to connect to the database."""
        database = sql.Identifier(name)
        with self._connection.transaction():
            self._execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
            self._execute(sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS true").format(database))

    def close_to(self, name: str, role: str) -> None:
        """Revoke `role`'s access to the database, and end the role's sessions."""
        database = sql.Identifier(name)
        self._execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM {}").format(database, sql.Identifier(role)))
        self._end_sessions_of(role)

    def fence(self, name: str, role: str, wait_s: float) -> None:
        """Revoke `role`'s access to the database; end its sessions once none is in a transaction, or after `wait_s`.

        These are the role's sessions in any database. It does not matter if the database or the role is already gone.
        """
        if not self.role_exists(role):
            return
        if self.database_exists(name):
            self._execute(
                sql.SQL("REVOKE ALL ON DATABASE {} FROM {}").format(sql.Identifier(name), sql.Identifier(role))
            )
        deadline = time.monotonic() + wait_s
        while self._scalar(IN_TRANSACTION, role) and time.monotonic() < deadline:
            time.sleep(0.05)
        self._end_sessions_of(role)

    def swap(self, live: str, replacement: str, kept: str | None, role: str) -> None:
        """Rename `live` to `kept` and `replacement` to `live`, and let `role` into the new `live`: all or nothing.

        PostgreSQL renames a database only if no one is connected, so all sessions in both are ended. Call `close_to`
        for `live` first: no access to it is revoked here. `kept` is None if there is no `live`.
        """
        rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
        for name in (live, replacement):
            self._end_sessions_in(name)
        with self._connection.transaction():
            if kept is not None:
                self._execute(rename.format(sql.Identifier(live), sql.Identifier(kept)))
            self._execute(rename.format(sql.Identifier(replacement), sql.Identifier(live)))
            self.open_to(live, role)

    def database_bytes(self, names: Sequence[str]) -> dict[str, int]:
        """Return {name: size in bytes} of the named databases that exist."""
        query = "SELECT datname, pg_database_size(oid)::int8 FROM pg_database WHERE datname = ANY(%s) ORDER BY datname"
        return dict(self._rows(query, [list(names)]))

    def database_owners(self) -> dict[str, str]:
        """Return {database: owner} of all databases that allow connections, except templates."""
        query = """
            SELECT datname, pg_catalog.pg_get_userbyid(datdba)
              FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname
        """
        return dict(self._rows(query))

    def databases_named(self, prefix: str) -> list[str]:
        """Return the database names that start with `prefix`."""
        return [
            row[0] for row in self._rows("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [prefix])
        ]

    def drop_database(self, name: str) -> None:
        """Drop the database if it exists, and end its connections."""
        if self.database_exists(name):
            self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    # -- prepared transactions ----------------------------------------------------------------------------------------

    def prepared_transactions(self, gid_prefix: str) -> dict[str, str]:
        """Return {gid: database} of the owner's prepared transactions whose name starts with `gid_prefix`.

        Those of other roles are left out, since any role can choose such a name.
        """
        query = "SELECT gid, database FROM pg_prepared_xacts WHERE owner = %s AND starts_with(gid, %s) ORDER BY gid"
        return dict(self._rows(query, [self.owner, gid_prefix]))

    def prepared_capacity(self) -> tuple[int, int]:
        """Return how many transactions can be prepared at the same time, and how many are prepared now."""
        query = (
            "SELECT current_setting('max_prepared_transactions')::int, (SELECT count(*) FROM pg_prepared_xacts)::int"
        )
        [(maximum, used)] = self._rows(query)
        return maximum, used

    def doors(self, names: Sequence[str]) -> dict[str, Door]:
        """Return {database: who may connect} for the `names` that exist. A tenant's role is named like its database."""
        parameters = {"group": self.group, "names": list(names)}
        return {row[0]: Door(*row[1:]) for row in self._rows(DOORS, parameters)}
