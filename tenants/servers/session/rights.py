"""The rights that a server's administrator needs, and the statements that grant them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString

from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from psycopg import sql

from tenants.errors import ServerError
from tenants.servers.session.base import Session


@dataclass(frozen=True)
class Right:
    name: str
    # Whether the current role has the right: a condition on its row in pg_roles.
    held: LiteralString
    # Grants the right to {}. config/stack/roles.sql grants every right that a new administrator would lack.
    statement: LiteralString

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class MissingRight:
    right: Right
    # For the server's superuser to run, in the maintenance database.
    statement: str


def _execute_on(function: LiteralString) -> Right:
    return Right(
        f"EXECUTE on {function}",
        "pg_catalog.has_function_privilege('pg_catalog." + function + "', 'EXECUTE')",
        "GRANT EXECUTE ON FUNCTION " + function + " TO {};",
    )


def _member_of(role: LiteralString) -> Right:
    return Right(role, "pg_catalog.pg_has_role('" + role + "', 'USAGE')", "GRANT " + role + " TO {};")


# Without these no tenant can be created, migrated or restored.
NEEDED = (
    Right("CREATEDB", "rolsuper OR rolcreatedb", "ALTER ROLE {} CREATEDB;"),
    Right("CREATEROLE", "rolsuper OR rolcreaterole", "ALTER ROLE {} CREATEROLE;"),
    _member_of("pg_signal_backend"),
    _member_of("pg_monitor"),
)
# To connect, and let the owner connect, even if tenants use all other connections. PostgreSQL 15 has no such role.
RESERVED = Right(
    "pg_use_reserved_connections WITH ADMIN OPTION",
    "NOT EXISTS (SELECT FROM pg_catalog.pg_roles AS reserved WHERE reserved.rolname = 'pg_use_reserved_connections'"
    " AND NOT pg_catalog.pg_has_role(reserved.oid, 'MEMBER WITH ADMIN OPTION'))",
    "GRANT pg_use_reserved_connections TO {} WITH ADMIN OPTION;",
)
# To connect as a standby does, which pg_basebackup and pg_receivewal do.
REPLICATION = Right("REPLICATION", "rolsuper OR rolreplication", "ALTER ROLE {} REPLICATION;")
# To identify the server and its timeline. PostgreSQL allows this to everyone unless the right was revoked.
IDENTIFY = (_execute_on("pg_control_system()"), _execute_on("pg_control_checkpoint()"))
# To allow recovery up to the present, and to create restore points before something is destroyed.
TO_THE_LAST_MOMENT = (_execute_on("pg_switch_wal()"), _execute_on("pg_create_restore_point(text)"))
# To see whether the WAL on the server itself still holds erased data. Members of pg_monitor can.
LIST_LOG = _execute_on("pg_ls_waldir()")
FOR_RECOVERY = (REPLICATION, *IDENTIFY, *TO_THE_LAST_MOMENT, LIST_LOG)
# Since PostgreSQL 16, CREATEROLE covers only roles that were granted to the administrator or that it created, not those
# of a previous administrator. Tenants' roles are the members of the group that cannot create roles themselves.
BEYOND_REACH: LiteralString = """
SELECT r.rolname
  FROM pg_catalog.pg_roles AS r
 WHERE (r.rolname IN (%(owner)s, %(group)s)
        OR EXISTS (SELECT FROM pg_catalog.pg_auth_members AS m JOIN pg_catalog.pg_roles AS g ON g.oid = m.roleid
                    WHERE g.rolname = %(group)s AND m.member = r.oid AND NOT r.rolcreaterole AND NOT r.rolsuper))
   AND r.rolname <> current_user
   AND NOT pg_catalog.pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION')
 ORDER BY r.rolname
"""
RULED_SINCE_VERSION = 160000


class Rights(Session):
    def missing_needed(self) -> list[MissingRight]:
        """Return the missing rights without which no tenant can be created, changed or removed."""
        return [*self.missing_rights(NEEDED), *self._missing_roles()]

    def missing_rights(self, wanted: Sequence[Right]) -> list[MissingRight]:
        """Return the `wanted` rights that the administrator lacks, in the same order."""
        held = sql.SQL(", ").join(sql.SQL(right.held) for right in wanted)
        query = sql.SQL("SELECT {} FROM pg_catalog.pg_roles WHERE rolname = current_user").format(held)
        [found] = self._rows(query)
        role = sql.Identifier(self._connection.info.user)
        return [
            MissingRight(right, sql.SQL(right.statement).format(role).as_string(self._connection))
            for right, is_held in zip(wanted, found, strict=True)
            if not is_held
        ]

    def require_needed(self) -> None:
        """Raise `ServerError`, with the statements to run, if the administrator lacks a right that is always needed."""
        self._require_none(self.missing_needed())

    def require_rights(self, *wanted: Right) -> None:
        """Raise `ServerError`, with the statements to run, if the administrator lacks one of these rights."""
        self._require_none(self.missing_rights(wanted))

    def _missing_roles(self) -> list[MissingRight]:
        """Return one right that covers all of our roles that the administrator cannot alter; [] if there are none."""
        if self._connection.info.server_version < RULED_SINCE_VERSION:
            return []
        roles = [name for (name,) in self._rows(BEYOND_REACH, {"owner": self.owner, "group": self.group})]
        if not roles:
            return []
        grant = sql.SQL("GRANT {} TO {} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;").format(
            sql.SQL(", ").join(map(sql.Identifier, roles)), sql.Identifier(self._connection.info.user)
        )
        name = ngettext("ADMIN OPTION on %(count)d role", "ADMIN OPTION on %(count)d roles", len(roles))
        right = Right(name % {"count": len(roles)}, "false", "")
        return [MissingRight(right, grant.as_string(self._connection))]

    def _require_none(self, missing: Sequence[MissingRight]) -> None:
        if missing:
            raise ServerError(
                _("The administrator of database server %(name)s lacks %(rights)s.")
                % {"name": self.server.name, "rights": ", ".join(str(one.right) for one in missing)},
                hint=_("As a superuser, run in the database of the administrator's URL: %(statements)s")
                % {"statements": " ".join(one.statement for one in missing)},
                code="server_rights_missing",
            )

    def is_superuser(self) -> bool:
        return bool(self._scalar("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"))
