"""Which rights base backups and recovery need of a server's administrator, and the statements that grant them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _
from psycopg import sql

from tenants.cluster.session import Session
from tenants.errors import ServerError


@dataclass(frozen=True)
class Right:
    """REPLICATION, or EXECUTE on one of PostgreSQL's functions."""

    function: str = ""

    def __str__(self) -> str:
        return f"EXECUTE on {self.function}" if self.function else "REPLICATION"


@dataclass(frozen=True)
class MissingRight:
    right: Right
    # For the server's superuser to run.
    statement: str


# To connect as a standby does, which pg_basebackup and pg_receivewal do.
REPLICATION = Right()
# To tell which server it is, and on which timeline. PostgreSQL lets everybody, unless somebody took it away.
IDENTIFY = (Right("pg_control_system()"), Right("pg_control_checkpoint()"))
# So that "now" can be recovered to, and what is about to be destroyed can be marked.
SWITCH, MARK = Right("pg_switch_wal()"), Right("pg_create_restore_point(text)")
# To tell whether the log on the server itself still holds what was erased.
LIST_LOG = Right("pg_ls_waldir()")
RECOVERY_RIGHTS = (REPLICATION, *IDENTIFY, SWITCH, MARK, LIST_LOG)


class RecoveryRights(Session):
    def missing_rights(self, wanted: Sequence[Right] = RECOVERY_RIGHTS) -> list[MissingRight]:
        """Return those that the administrator has not, in the same order."""
        [(role, replicates)] = self._rows(
            "SELECT rolname, rolsuper OR rolreplication FROM pg_catalog.pg_roles WHERE rolname = current_user"
        )
        missing = []
        for right in wanted:
            query = "SELECT pg_catalog.has_function_privilege(%s, 'EXECUTE')"
            if not (self._scalar(query, right.function) if right.function else replicates):
                missing.append(MissingRight(right, _statement(right, role)))
        return missing

    def require_rights(self, *wanted: Right) -> None:
        """Raise `ServerError`, with the statements that help, where the administrator lacks one of them."""
        missing = self.missing_rights(wanted)
        if missing:
            raise ServerError(
                _("The administrator of database server %(name)s lacks %(rights)s.")
                % {"name": self.server.name, "rights": ", ".join(str(one.right) for one in missing)},
                hint=_("As its superuser, run: %(statements)s")
                % {"statements": " ".join(one.statement for one in missing)},
            )


def _statement(right: Right, role: str) -> str:
    name = sql.Identifier(role).as_string()
    if not right.function:
        return f"ALTER ROLE {name} REPLICATION;"
    return f"GRANT EXECUTE ON FUNCTION {right.function} TO {name};"
