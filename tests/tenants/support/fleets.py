"""Fleets of tenants, the state of their databases, and programs that die while migrating them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import psycopg

from tenants.models import DatabaseServer, MigrationBatch, Tenant
from tenants.routing.owner_connection import owner_connection
from tenants.schema.catalog import Catalog, catalog_read
from tenants.schema.inspection import database_of
from tenants.schema.reference import history_read
from tenants.schema.releases import History
from tenants.servers.session import owner_url
from tenants.types import BatchProgress
from tests.support.forked import forked
from tests.support.releases import NextRelease
from tests.support.superuser import superuser_url

# Every row of the catalogs that says what a schema is, with the transaction that wrote it.
ROWS = """
SELECT 'class', oid, xmin::text, relname::text FROM pg_class WHERE oid >= 16384
UNION ALL SELECT 'column', attrelid, xmin::text, attname::text FROM pg_attribute WHERE attrelid >= 16384
UNION ALL SELECT 'constraint', oid, xmin::text, conname::text FROM pg_constraint WHERE oid >= 16384
UNION ALL SELECT 'function', oid, xmin::text, proname::text FROM pg_proc WHERE oid >= 16384
UNION ALL SELECT 'trigger', oid, xmin::text, tgname::text FROM pg_trigger
UNION ALL SELECT 'migration', id::oid, applied::text, app || '.' || name FROM django_migrations
UNION ALL SELECT 'audit', id::oid, entry_hash, action FROM audit_logs
ORDER BY 1, 2, 4
"""


@contextmanager
def as_owner(tenant: Tenant) -> Iterator[psycopg.Connection]:
    """Open a transaction in the tenant's database as the owner of its tables; it is committed at the end."""
    assert tenant.server is not None
    with psycopg.connect(owner_url(tenant.server, database_of(tenant))) as connection:
        yield connection


def state_of(tenant: Tenant) -> list[tuple[object, ...]]:
    """Return the catalogs' rows, the migration history and the audit entries, which a migration would change."""
    with as_owner(tenant) as connection:
        return connection.execute(ROWS).fetchall()


def states_of(tenants: Iterable[Tenant]) -> dict[str, list[tuple[object, ...]]]:
    return {tenant.id: state_of(tenant) for tenant in tenants}


def catalog_of(tenant: Tenant) -> Catalog:
    assert tenant.server is not None
    with owner_connection(tenant.server, database_of(tenant), "test") as connection:
        return catalog_read(connection)


def history_of(tenant: Tenant) -> History:
    assert tenant.server is not None
    with owner_connection(tenant.server, database_of(tenant), "test") as connection:
        return history_read(connection)


def leftovers(server_name: str = "main") -> list[str]:
    """Return a server's prepared transactions, rehearsal databases and unfinished templates; there should be none."""
    query = """
        SELECT gid FROM pg_prepared_xacts
        UNION ALL
        SELECT datname FROM pg_database WHERE datname LIKE '%\\_rehearsal\\_%' OR datname LIKE '%\\_building'
    """
    with psycopg.connect(superuser_url(DatabaseServer.objects.get(pk=server_name).admin_url)) as connection:
        return [row[0] for row in connection.execute(query)]


def batch() -> MigrationBatch:
    """Return the newest batch."""
    return MigrationBatch.objects.order_by("-started_at")[0]


def migrate_and_die(release: NextRelease, phase: str, done: int) -> None:
    """Migrate all tenants to that release in a separate process; `kill -9` it when `done` items of a phase are done."""
    with forked(_migrate_and_die, release, phase, done) as (process, heard):
        process.join()
        problem = heard.recv() if process.exitcode != -signal.SIGKILL and heard.poll() else ""
        assert process.exitcode == -signal.SIGKILL, problem or f"it has no {done} of the phase {phase}"


def _migrate_and_die(said: Connection, release: NextRelease, phase: str, done: int) -> None:
    from tenants.fleet.migrate import tenant_migrate

    def die(progress: BatchProgress) -> None:
        if (progress.phase, progress.done) == (phase, done):
            os.kill(os.getpid(), signal.SIGKILL)

    with release.active():
        tenant_migrate(workers=1, on_progress=die)
