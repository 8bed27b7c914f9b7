"""The backend behind a worker's connections to the control database (Django loads it by its ENGINE name)."""

from typing import Any

from django.db.backends.postgresql import base as postgresql

from config.base.databases import is_quiet


class DatabaseWrapper(postgresql.DatabaseWrapper):
    """Takes from the pool a connection that the server has not ended, without asking the server.

    A worker does this several times for each step.
    """

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        connection = super().get_new_connection(conn_params)
        while self.pool and not is_quiet(connection):
            connection.close()
            # It opens another one instead.
            self.pool.putconn(connection)
            connection = super().get_new_connection(conn_params)
        return connection
