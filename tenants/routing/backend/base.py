"""The backend that connects to tenants' databases as the tenants' roles (Django loads it by its ENGINE name)."""

from __future__ import annotations

import time
from typing import Any

import psycopg
from django.db.backends.postgresql import base as postgresql
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.db.utils import DatabaseError, DatabaseErrorWrapper
from django.utils.functional import cached_property

from config.base.databases import is_quiet
from tenants.errors import TenantIdentityMismatch, TenantUnreachable, reason_of
from tenants.routing.active import require
from tenants.routing.pool import connection_settings, generation_of, pool
from tenants.selectors import rotated_lately, tenant_get

# How long to retry a login whose password a rotation is changing.
ROTATION_WAIT_S = 3.0


class ErrorsWithAlias(DatabaseErrorWrapper):
    """Django's translation of the driver's errors; adds the database's `alias` to each."""

    def __exit__(self, *raised: Any) -> None:
        try:
            super().__exit__(*raised)
        except DatabaseError as error:
            error.alias = self.wrapper.alias  # type: ignore[attr-defined]
            raise


IDENTITY_QUERY = "SELECT tenant_id, identity FROM public.tenant_identity"


class DatabaseWrapper(postgresql.DatabaseWrapper):
    """Django's wrapper of a tenant's database; takes its connection from the process's pool and returns it on close.

    Checks the database's identity whenever a connection is opened, and the active tenant whenever a cursor is created.
    """

    @cached_property
    def wrap_database_errors(self) -> ErrorsWithAlias:
        return ErrorsWithAlias(self)

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        connection = self._acquire(conn_params)
        if not self._answers(connection):
            # The server has ended the warm connection (restart, or the database was swapped out): open a new one.
            pool.take_back(self.alias, self._generation, connection, reusable=False)
            pool.discard(self.alias)
            connection = self._acquire(conn_params)
        self.isolation_level = IsolationLevel.READ_COMMITTED
        return connection

    def _acquire(self, conn_params: dict[str, Any]) -> Any:
        return pool.acquire(self.alias, self._generation, lambda: self._open(conn_params))

    def _open(self, conn_params: dict[str, Any]) -> Any:
        connection = self._connect(conn_params)
        try:
            self._check_identity(connection)
            connection.rollback()
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self, conn_params: dict[str, Any]) -> Any:
        """Log in; while `tenant rotate` changes the password, retry with the one that the tenant's row has by then.

        The row may have been read before the change, and for a moment the row and the role differ.
        """
        tenant_id, deadline = self.settings_dict["TENANT_ID"], time.monotonic() + ROTATION_WAIT_S
        while True:
            try:
                return super().get_new_connection(conn_params)
            except psycopg.OperationalError as error:
                if time.monotonic() >= deadline or not rotated_lately(tenant_id):
                    raise TenantUnreachable(tenant_id, reason_of(error)) from error
            time.sleep(0.05)
            conn_params = {**conn_params, "password": connection_settings(tenant_get(tenant_id))["PASSWORD"]}

    def _check_identity(self, connection: Any) -> None:
        tenant_id, identity = self.settings_dict["TENANT_ID"], self.settings_dict["IDENTITY"]
        try:
            row = connection.execute(IDENTITY_QUERY).fetchone()
        except psycopg.ProgrammingError as error:
            raise TenantIdentityMismatch(tenant_id, is_tenants=False) from error
        if row is None or (row[0], row[1]) != (tenant_id, identity):
            raise TenantIdentityMismatch(tenant_id, row[0] if row else None)

    @staticmethod
    def _answers(connection: Any) -> bool:
        """Return whether the connection can be used: the server may have ended it since its last use."""
        if is_quiet(connection):
            return True
        try:
            connection.execute("SELECT 1")
            connection.rollback()
        except psycopg.Error:
            return False
        return True

    def _cursor(self, name: str | None = None) -> Any:
        require(self.alias)
        return super()._cursor(name)  # type: ignore[misc]

    def _close(self) -> None:
        if self.connection is not None:
            with self.wrap_database_errors:
                current = generation_of(self.alias) == self._generation
                reusable = current and not self.in_atomic_block and _is_clean(self.connection)
                pool.take_back(self.alias, self._generation, self.connection, reusable=reusable)

    @property
    def _generation(self) -> str:
        return str(self.settings_dict["GENERATION"])


def _is_clean(connection: Any) -> bool:
    """Return whether the connection is open and outside any transaction."""
    idle = psycopg.pq.TransactionStatus.IDLE
    return not connection.closed and connection.info.transaction_status == idle
