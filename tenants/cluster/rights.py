"""What the administrator of a server may do there, what it must be able to, and the statements that let it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString

from django.utils.translation import gettext as _
from psycopg import sql

from tenants.cluster.session import Session
from tenants.errors import ServerError

FOUND: LiteralString = """
SELECT rolsuper,
       rolsuper OR rolcreatedb,
       rolsuper OR rolcreaterole,
       pg_has_role('pg_signal_backend', 'USAGE'),
       pg_has_role('pg_monitor', 'USAGE'),
       rolsuper OR rolreplication,
       has_function_privilege('pg_catalog.pg_switch_wal()', 'EXECUTE'),
       has_function_privilege('pg_catalog.pg_create_restore_point(text)', 'EXECUTE')
  FROM pg_catalog.pg_roles WHERE rolname = current_user
"""
# In the order of `FOUND`; config/stack/roles.sql grants all of them. Nothing works without the first four.
NEEDED: tuple[LiteralString, ...] = (
    "ALTER ROLE {} CREATEDB",
    "ALTER ROLE {} CREATEROLE",
    "GRANT pg_signal_backend TO {}",
    "GRANT pg_monitor TO {}",
)
FOR_RECOVERY: tuple[LiteralString, ...] = (
    "ALTER ROLE {} REPLICATION",
    "GRANT EXECUTE ON FUNCTION pg_switch_wal() TO {}",
    "GRANT EXECUTE ON FUNCTION pg_create_restore_point(text) TO {}",
)
EXCESSIVE: LiteralString = "ALTER ROLE {} NOSUPERUSER"


@dataclass(frozen=True)
class MissingRights:
    """Statements for a superuser, in the server's maintenance database; empty where nothing is missing."""

    # Without which no tenant can be created, migrated or restored.
    needed: list[str]
    # Without which there are no base backups, or the last moments cannot be recovered.
    for_recovery: list[str]
    # What the administrator has too much of.
    excessive: list[str]


class Rights(Session):
    def missing_rights(self) -> MissingRights:
        [(is_superuser, *found)] = self._rows(FOUND)
        missing = [right for right, granted in zip(NEEDED + FOR_RECOVERY, found, strict=True) if not granted]
        return MissingRights(
            needed=[self._statement(right) for right in missing if right in NEEDED],
            for_recovery=[self._statement(right) for right in missing if right in FOR_RECOVERY],
            excessive=[self._statement(EXCESSIVE)] if is_superuser else [],
        )

    def _statement(self, right: LiteralString) -> str:
        return sql.SQL(right).format(sql.Identifier(self._connection.info.user)).as_string(self._connection)

    def require_rights(self) -> None:
        """Raise `ServerError`, naming every right that the administrator needs and lacks."""
        missing = self.missing_rights().needed
        if missing:
            raise ServerError(
                _("The administrator of database server %(name)s, %(role)s, lacks rights: %(count)d.")
                % {"name": self.server.name, "role": self._connection.info.user, "count": len(missing)},
                hint=_("As a superuser, run there: %(statements)s;") % {"statements": "; ".join(missing)},
            )
