"""The pool behind a worker's connections to the control database."""

from collections.abc import Iterator

import psycopg
import pytest
from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from config.base.databases import CONTROL, return_control_connection
from tests.config.queue.control_pool import pooled_control_connections
from tests.support.superuser import superuser_url


@pytest.fixture(autouse=True)
def pooled() -> Iterator[None]:
    with pooled_control_connections():
        yield


def test_returned_connections_are_used_again() -> None:
    pids = set()
    for _ in range(10):
        pids.add(session())
        return_control_connection()
    # On a busy machine, the pool opens a second connection while the first is being opened.
    assert len(pids) <= 2


def test_a_connection_that_the_server_ended_is_replaced() -> None:
    pid = session()
    return_control_connection()
    end(pid)
    assert session() != pid


def test_no_connection_that_the_server_ended_is_used_if_all_were() -> None:
    held = [connections.create_connection(CONTROL) for _ in range(3)]
    pids = {session(connection) for connection in held}
    assert len(pids) == 3
    for connection in held:
        connection.close()
    end(*pids)
    for connection in held:
        assert session(connection) not in pids
        connection.close()


def session(connection: BaseDatabaseWrapper | None = None) -> int:
    """Return the id of the server process that serves the connection."""
    with (connection or connections[CONTROL]).cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        pid: int = cursor.fetchone()[0]
        return pid


def end(*pids: int) -> None:
    """End sessions, as a restart of the server does."""
    url = superuser_url(str(settings.TENANT_SERVER_URL))
    with psycopg.connect(url, autocommit=True) as server:
        for pid in pids:
            server.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
