"""The time that creating a tenant takes, by phase."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import psycopg
from psycopg import sql

from benchmarks.children import Child, child
from benchmarks.environment import Environment
from benchmarks.measure import interleaved, ratios, seconds_of, shares
from benchmarks.tables import Row, Table

ROUNDS = 15
PREFIX = "bench-"
# A fresh server has touched little of its shared memory, and its first clones wait for the system to allocate the rest;
# this many clones use all of it.
WARM_UP_CLONES = 24
# Makes every name new.
_numbers = count()

# `tenant_create` announces each phase; before the first announcement it locks and records.
PHASES = {
    "begin": "lock, connect to the server, record tenant and operation",
    "template": "look for the template",
    "role": "create the role",
    "database": "clone the template",
    "access": "let the role in",
    "identity": "connect as the tenant, bind identity and audit log, record the end",
    "active": "leave the server, unlock",
}


def creation(environment: Environment) -> list[Table]:
    """Compare `tenant_create` with a bare clone, and with creating a django-tenants schema on the same server.

    Nothing is dropped in between, since that would slow down creating files (see `environment._new_home`).
    """
    parts: list[dict[str, float]] = []
    with environment.server() as server, _schema_tenants(environment) as schemas:
        _warm(server)

        def ours() -> float:
            parts.append(_create_tenant())
            return sum(parts[-1].values())

        seconds = interleaved(
            {
                "ours": ours,
                "raw": lambda: _clone(server),
                "raw, connected": lambda: seconds_of(lambda: _connect_and_clone(environment)),
                "migrated schema": lambda: float(schemas.answer(f"migrate s{next(_numbers)}")),
                "cloned schema": lambda: float(schemas.answer(f"clone s{next(_numbers)}")),
            },
            rounds=ROUNDS,
            warm_up=2,
        )
    ours_s = seconds["ours"]
    rows = [
        Row(
            "tenant_create ÷ connect, CREATE DATABASE … TEMPLATE",
            ratios(ours_s, seconds["raw, connected"]),
            at_most=1.3,
        ),
        Row("tenant_create ÷ that statement alone, connected long ago", ratios(ours_s, seconds["raw"]), at_most=1.3),
        Row("tenant_create ÷ django-tenants, schema migrated", ratios(ours_s, seconds["migrated schema"]), at_most=1),
        Row("tenant_create ÷ django-tenants, schema cloned", ratios(ours_s, seconds["cloned schema"]), at_most=1),
    ]
    measured = shares(parts[-ROUNDS:])
    where = [Row(PHASES.get(name, name), values, percent=True) for name, values in measured.items()]
    return [Table("Creating a tenant", rows), Table("Creating a tenant: where the time goes", where)]


def _create_tenant() -> dict[str, float]:
    """Create a tenant; return the seconds of each phase."""
    from tenants.lifecycle.create import tenant_create

    begun = [("begin", time.perf_counter())]
    tenant_create(
        name=f"{PREFIX}{next(_numbers)}",
        on_progress=lambda progress: begun.append((progress.step, time.perf_counter())),
    )
    ends = [*(moment for _, moment in begun[1:]), time.perf_counter()]
    return {name: end - start for (name, start), end in zip(begun, ends, strict=True)}


def _warm(server: psycopg.Connection) -> None:
    _create_tenant()
    for _ in range(WARM_UP_CLONES):
        _clone(server)


def _connect_and_clone(environment: Environment) -> None:
    """Connect and clone the template, as a simple script that creates a database would."""
    with environment.server() as server:
        _clone(server)


def _clone(server: psycopg.Connection) -> float:
    """Clone the template that tenants are cloned from; return the seconds that this statement alone took."""
    found = server.execute("SELECT datname FROM pg_database WHERE datname LIKE '%\\_template\\_%'").fetchone()
    assert found is not None  # the first tenant's creation has built it
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
    created = statement.format(sql.Identifier(f"{PREFIX}raw-{next(_numbers)}"), sql.Identifier(found[0]))
    return seconds_of(lambda: server.execute(created))


@contextmanager
def _schema_tenants(environment: Environment) -> Iterator[Child]:
    url = environment.create_database("schema_tenants")
    variables = {"SCHEMA_TENANTS_URL": url, "DJANGO_SETTINGS_MODULE": "benchmarks.schema_tenants.settings"}
    with child(["-m", "benchmarks.schema_tenants"], log=environment.log("schema_tenants"), environment=variables) as it:
        it.answer()  # it is ready
        yield it
