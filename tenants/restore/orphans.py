"""Files in a tenant's storage that no row refers to, such as those left behind by a restore."""

from __future__ import annotations

from django.db import transaction

from audit.log.entries import record
from config.base.databases import CONTROL
from tenants.app_hooks import contents
from tenants.errors import TenantNotActive
from tenants.files import tenant_storage
from tenants.files.tenant_storage import StoredObject, objects_of
from tenants.models import Restore, Tenant
from tenants.operations import tenant_lock
from tenants.restore.workflow import RESTORABLE, work_of
from tenants.routing.owner_connection import owner_connection
from tenants.schema.inspection import database_of
from tenants.selectors import require_finished, tenant_get


def tenant_orphans(*, tenant_id: str, remove: bool = False) -> list[StoredObject]:
    """Return the tenant's files that no row refers to; with `remove`, also remove them.

    While a replaced database is kept, its rows count too: undoing the restore needs their files. Files of runs that are
    not completed are never orphans, since a file is written before its row.
    """
    with tenant_lock(tenant_id):
        require_finished(tenant_id)
        tenant = tenant_get(tenant_id)
        if tenant.status not in RESTORABLE:
            raise TenantNotActive(tenant.id, tenant.status)
        # List the files first: those of a run that begins meanwhile are then either not listed or known.
        present = list(objects_of(tenant.id))
        known, working = _known(tenant)
        found = [one for one in present if one.path not in known and not _belongs(one.path, working)]
        if remove and found:
            _remove(tenant, found)
    return found


def _known(tenant: Tenant) -> tuple[set[str], list[str]]:
    """Return the paths that rows refer to, and the ids of runs that may still write files."""
    kept = Restore.objects.using(CONTROL).filter(tenant_id=tenant.id, kept_until__isnull=False)
    known: set[str] = set()
    working: list[str] = []
    for database in [database_of(tenant), *kept.values_list("kept", flat=True)]:
        with owner_connection(tenant.require_server(), database, work_of(tenant)) as connection:
            known |= {file.path for file in contents().files(connection.alias)}
            working += contents().unended(connection.alias)
    return known, working


def _belongs(path: str, runs: list[str]) -> bool:
    return any(f"/{run}/" in path for run in runs)


def _remove(tenant: Tenant, found: list[StoredObject]) -> None:
    """Record the removal, then remove the files: removal is not transactional, and no file may disappear unrecorded."""
    with transaction.atomic(using=CONTROL):
        record(
            using=CONTROL,
            action="tenant.orphans.remove",
            resource_type="tenant",
            resource_id=tenant.id,
            details={"count": len(found), "bytes": sum(one.size_bytes for one in found)},
        )
    tenant_storage.remove(one.path for one in found)
