"""A snapshot of a tenant's database, shared by the dump and the manifest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.db import connections, transaction
from django.utils.translation import gettext as _

from audit.log.safe_search_path import catalog_only
from tenants.app_hooks import FileRef, contents
from tenants.errors import BackupFailed
from tenants.models import DatabaseServer, Tenant
from tenants.routing.held_transaction import held_open
from tenants.routing.owner_connection import owner_connection
from tenants.schema.catalog import catalog_fingerprint, catalog_read, differences
from tenants.schema.inspection import database_of
from tenants.schema.reference import major_version
from tenants.schema.rehearsal import reference_for
from tenants.schema.releases import Release
from tenants.schema.row_counts import Census, census_take, large_objects_count


@dataclass(frozen=True)
class Snapshot:
    server: DatabaseServer
    database: str
    server_version: int
    # The value for `pg_dump --snapshot`.
    name: str
    alias: str


@dataclass(frozen=True)
class Account:
    """A snapshot's contents as the manifest describes them: row counts, files, schema and drift."""

    census: Census
    files: list[FileRef]
    fingerprint: str
    drift: list[str]
    # Number of large objects, which the dump omits.
    large_objects: int


@contextmanager
def snapshot(tenant: Tenant, *, work: str) -> Iterator[Snapshot]:
    """Hold a snapshot of the tenant's database, as its owner, while the block runs; writers are not blocked."""
    server, database = tenant.require_server(), database_of(tenant)
    with owner_connection(server, database, work) as connection, transaction.atomic(using=connection.alias):
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        with catalog_only(connection), connection.cursor() as cursor:
            cursor.execute("SELECT pg_export_snapshot()")
            name = cursor.fetchone()[0]
        with held_open(connection):
            yield Snapshot(server, database, major_version(connection), name, connection.alias)


def account_of(taken: Snapshot, tenant: Tenant, code: Release, *, work: str) -> Account:
    """Return the snapshot's contents; raise `BackupFailed` if the database is not this tenant's.

    The schema is compared with what the database's migrations create if `code` knows those; otherwise, `drift` is [].
    Raises `ServerError` if that schema cannot be created for the comparison.
    """
    connection = connections[taken.alias]
    census = census_take(connection)
    if census is None or (census.tenant_id, census.identity) != (tenant.id, tenant.identity):
        raise BackupFailed(
            tenant.id,
            _("The database %(name)s does not have this tenant's identity.") % {"name": taken.database},
            code="tenant_identity_mismatch",
        )
    fingerprint = catalog_fingerprint(connection)
    drift: list[str] = []
    if not code.problem(census.history):
        reference = reference_for(taken.server, taken.server_version, census.history, code, work)
        if reference.fingerprint != fingerprint:
            drift = differences(reference.catalog, catalog_read(connection))
    return Account(census, list(contents().files(taken.alias)), fingerprint, drift, large_objects_count(connection))
