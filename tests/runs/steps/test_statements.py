"""A step in a warm worker causes few statements and opens no connection, according to the server's log."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from django.conf import settings
from django.db import connections

from config import stack
from config.base.databases import CONTROL
from config.stack.process import wait_until
from runs.models import Run, RunStatus
from tenants.models import Tenant
from tenants.routing.pool import pool
from tests.config.queue.control_pool import pooled_control_connections
from tests.runs.driving import STEPS, execute, reload
from tests.support.superuser import superuser_url

STATEMENTS_MAX = 16
# The first step of a run records that the run began, the last one that it ended, and both write its summary.
STATEMENTS_MAX_AT_THE_ENDS = 21
STATEMENT = re.compile(r"LOG:  (?:statement|execute [^:]*): (.*)")
LOGIN = "LOG:  connection authorized"


class ServerLog:
    """Reads what the server has logged since `lines` was last called."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = path.stat().st_size

    def lines(self) -> list[str]:
        """Return the new lines. The server logs a statement before it executes it."""
        with self._path.open("rb") as log:
            log.seek(self._position)
            found = log.read()
        self._position += len(found)
        return found.decode(errors="replace").splitlines()


@pytest.fixture
def server_log(stack_home: stack.Home) -> Iterator[ServerLog]:
    """Make the server log all statements during the test; yield its log."""
    url = superuser_url(str(settings.TENANT_SERVER_URL))

    def set_to(command: str, expected: str) -> None:
        with psycopg.connect(url, autocommit=True) as server:
            server.execute(f"ALTER SYSTEM {command}".encode())
            server.execute("SELECT pg_reload_conf()")
        assert wait_until(lambda: shown() == expected, 10)

    def shown() -> str:
        with psycopg.connect(url) as fresh:
            row = fresh.execute("SHOW log_statement").fetchone()
        return row[0] if row else ""

    set_to("SET log_statement = 'all'", "all")
    yield ServerLog(stack_home.log_file("postgres"))
    set_to("RESET log_statement", "none")


def test_a_step_of_a_warm_worker_costs_few_statements_and_no_connection(
    server_log: ServerLog, tenant: Tenant, make_run: Callable[..., Run]
) -> None:
    pool.discard(tenant.alias)
    first, second = make_run(tenant), make_run(tenant)
    with pooled_control_connections():
        for step in STEPS:
            execute_as_worker(tenant, first, step)
        server_log.lines()
        logged = {}
        for step in STEPS:
            execute_as_worker(tenant, second, step)
            logged[step] = server_log.lines()

    assert reload(tenant, second).status == RunStatus.COMPLETED
    for step, lines in logged.items():
        assert not [line for line in lines if LOGIN in line]
        statements = [found[1] for line in lines if (found := STATEMENT.search(line))]
        is_end = step in (STEPS[0], STEPS[-1])
        assert len(statements) <= (STATEMENTS_MAX_AT_THE_ENDS if is_end else STATEMENTS_MAX), statements
        # A sign that the log is complete: the claim and the end of a step are committed separately.
        assert statements.count("COMMIT") == 2


def execute_as_worker(tenant: Tenant, run: Run, step: str) -> None:
    assert execute(tenant, run, step) == "completed"
    # As Celery does after each task.
    connections[CONTROL].close()
