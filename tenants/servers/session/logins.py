"""Tenants' login roles, limited so that anyone who has one can harm only that tenant's database."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from django.conf import settings
from psycopg import sql

from tenants.servers.session.roles import Roles

# PostgreSQL lets every role change its own settings and password, and no statement can prevent that. So the state is
# compared with the desired one (`logins`) and reset (`ensure_login`).
LOGINS: LiteralString = """
SELECT role.rolname,
       role.rolconnlimit,
       role.rolvaliduntil IS NOT NULL AND role.rolvaliduntil <> 'infinity',
       ARRAY(SELECT setting FROM pg_db_role_setting AS own, unnest(own.setconfig) AS setting
              WHERE own.setrole = role.oid AND own.setdatabase = 0 ORDER BY setting),
       ARRAY(SELECT DISTINCT setting FROM pg_db_role_setting AS own, unnest(own.setconfig) AS setting
              WHERE own.setrole = role.oid AND own.setdatabase <> 0 ORDER BY setting),
       (SELECT count(*) FROM pg_prepared_xacts WHERE owner = role.rolname AND database = role.rolname)::int
  FROM pg_roles AS role
 WHERE role.rolname = ANY(%s)
"""
# The databases for which a role has separate settings.
SET_IN: LiteralString = """
SELECT datname FROM pg_db_role_setting JOIN pg_database ON pg_database.oid = setdatabase
 WHERE setrole = (SELECT oid FROM pg_roles WHERE rolname = %s)
"""
SESSIONS: LiteralString = "SELECT pid FROM pg_stat_activity WHERE usename = %s AND pid <> pg_backend_pid()"
# An idle session may just be between two statements. Without pg_read_all_stats the administrator cannot see what a
# session is doing, so every session gets the full time.
IDLE_S = 2
ENDING: LiteralString = """
SELECT pid FROM pg_stat_activity
 WHERE usename = %(role)s AND pid = ANY(%(pids)s)
   AND (%(over)s OR state = 'idle' AND state_change < now() - make_interval(secs => %(idle)s))
"""


@dataclass(frozen=True)
class Login:
    """The state of a tenant's role, apart from its password, which the catalogs do not show."""

    # Its connection limit; -1 for none.
    connections: int
    # Whether its password expires.
    expires: bool
    # ["lock_timeout=60000ms", …], sorted: the role's settings, and those for single databases.
    settings: list[str]
    settings_in_databases: list[str]
    # How many transactions it has prepared in its own database, which is named like the role. The product prepares only
    # as the owner; those in other databases are reported by `tenants.servers.foreign_transactions`.
    prepared: int


def wanted_settings() -> dict[str, str]:
    """Return the settings that every tenant's role should have."""
    return {
        "idle_in_transaction_session_timeout": _ms(settings.TENANT_ROLE_IDLE_IN_TRANSACTION_TIMEOUT_S),
        "lock_timeout": _ms(settings.TENANT_ROLE_LOCK_TIMEOUT_S),
        "statement_timeout": _ms(settings.TENANT_ROLE_STATEMENT_TIMEOUT_S),
    }


def _ms(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"


class Logins(Roles):
    def ensure_login(self, role: str, password: str) -> None:
        """Create the tenant's login role, or reset its password, expiry, limit and settings.

        The database has no connection limit: only this role and the owner may connect, and the owner must never be shut
        out.
        """
        verifier = sql.Literal(self._verifier(role, password))
        name, limit = sql.Identifier(role), sql.Literal(int(settings.TENANT_ROLE_CONNECTIONS))
        if self.role_exists(role):
            words = sql.SQL("ALTER ROLE {} LOGIN CONNECTION LIMIT {} VALID UNTIL 'infinity' PASSWORD {}")
            statement = words.format(name, limit, verifier)
        else:
            words = sql.SQL("CREATE ROLE {} LOGIN CONNECTION LIMIT {} PASSWORD {} IN ROLE {}")
            statement = words.format(name, limit, verifier, sql.Identifier(self.group))
        with self._connection.transaction():
            self._execute(statement)
            self._ensure_settings(role)

    @contextmanager
    def changing_login(self, role: str, password: str) -> Iterator[None]:
        """Do what `ensure_login` does, but commit only if the block succeeds. The statements run before the block."""
        try:
            with self._connection.transaction():
                self.ensure_login(role, password)
                yield
        except psycopg.Error as error:
            raise self._refused(error) from error

    def logins(self, roles: Sequence[str]) -> dict[str, Login]:
        """Return {role: its visible state}; roles that do not exist are left out."""
        return {row[0]: Login(*row[1:]) for row in self._rows(LOGINS, [list(roles)])}

    def end_old_sessions(self, role: str, grace_s: float) -> None:
        """End the role's current sessions: idle ones soon, others when they become idle or after `grace_s`."""
        deadline = time.monotonic() + grace_s
        pids = [row[0] for row in self._rows(SESSIONS, [role])]
        while pids:
            over = time.monotonic() >= deadline
            found = {"role": role, "pids": pids, "over": over, "idle": IDLE_S}
            for (pid,) in self._rows(ENDING, found):
                self._scalar("SELECT pg_terminate_backend(%s, 10000)", pid)
            if over:
                return
            time.sleep(0.1)
            pids = [row[0] for row in self._rows(ENDING, {**found, "over": True})]

    def roll_back_prepared_of(self, role: str, url: str) -> int:
        """Roll back the role's prepared transactions in its own database, as the role: only it or a superuser can.

        Returns how many there were. `url` is the role's own URL.
        """
        gids = self._rows("SELECT gid FROM pg_prepared_xacts WHERE owner = %s AND database = %s", [role, role])
        if not gids:
            return 0
        try:
            with self._entered(url) as connection:
                for (gid,) in gids:
                    connection.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))
        except psycopg.Error as error:
            raise self._refused(error) from error
        return len(gids)

    def _ensure_settings(self, role: str) -> None:
        """Give the role exactly the desired settings, and no per-database settings."""
        name = sql.Identifier(role)
        for (database,) in self._rows(SET_IN, [role]):
            self._execute(sql.SQL("ALTER ROLE {} IN DATABASE {} RESET ALL").format(name, sql.Identifier(database)))
        self._execute(sql.SQL("ALTER ROLE {} RESET ALL").format(name))
        for setting, value in wanted_settings().items():
            words = sql.SQL("ALTER ROLE {} SET {} = {}")
            self._execute(words.format(name, sql.Identifier(setting), sql.Literal(value)))
