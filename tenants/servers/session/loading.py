"""A guest's load of a dump: its progress, and the sessions and prepared transactions that it must not leave behind."""

from __future__ import annotations

from datetime import datetime
from typing import LiteralString

import psycopg
from psycopg import sql

from tenants.servers.session.guests import Guests

LOADED: LiteralString = """
SELECT coalesce((SELECT pg_catalog.pg_database_size(oid) FROM pg_catalog.pg_database WHERE datname = %s), 0),
       (SELECT max(query_start) FROM pg_catalog.pg_stat_activity WHERE usename = %s)
"""
# The guest owns the database, so it may have let others in, locked itself out, made it a template (which cannot be
# dropped), or changed the defaults of its sessions.
LET_IN: tuple[LiteralString, ...] = (
    "ALTER ROLE {role} LOGIN PASSWORD {password}",
    "ALTER ROLE {role} RESET ALL",
    "ALTER ROLE {role} IN DATABASE {database} RESET ALL",
    "ALTER DATABASE {database} RESET ALL",
    "ALTER DATABASE {database} WITH ALLOW_CONNECTIONS true CONNECTION LIMIT -1 IS_TEMPLATE false",
    "GRANT CONNECT ON DATABASE {database} TO {role}",
)


class Loading(Guests):
    def loaded(self, database: str, role: str) -> tuple[int, datetime | None]:
        """Return (bytes on disk, when the guest's newest statement began, or None if the guest has no session)."""
        [(size_bytes, begun)] = self._rows(LOADED, [database, role])
        return size_bytes, begun

    def end_guest(self, role: str) -> None:
        """End the guest's sessions, and with them its running statements."""
        self._end_sessions_of(role)

    def let_guest_in(self, database: str, role: str, password: str) -> None:
        """Allow the guest to log in to its database with that password, even if it has locked itself out."""
        names = {"database": sql.Identifier(database), "role": sql.Identifier(role)}
        verifier = sql.Literal(self._verifier(role, password))
        for statement in LET_IN:
            self._execute(sql.SQL(statement).format(**names, password=verifier))

    def roll_back_as_guest(self, database: str, role: str, password: str) -> int:
        """Roll back the prepared transactions in the guest's database, as the guest; return how many there were."""
        prepared = self._rows(
            "SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database = %s ORDER BY gid", [database]
        )
        if prepared:
            try:
                with self._entered(self.location(role, password, database=database).url) as connection:
                    for (gid,) in prepared:
                        connection.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))
            except psycopg.Error as error:
                raise self._refused(error) from error
        return len(prepared)
