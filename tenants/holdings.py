"""What there is of a tenant, and where: for whoever is about to erase it, and for whoever looks again afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction
from django.db.utils import Error

from tenants.backup_files import is_there
from tenants.census import census_take, is_of
from tenants.cluster import Cluster
from tenants.models import Backup, BackupStatus, Restore, Tenant
from tenants.objects import versions_of
from tenants.owner import owner_connection
from tenants.router import CONTROL

# What the databases of a tenant are.
LIVE, KEPT, SCRATCH = "live", "kept", "scratch"


@dataclass(frozen=True)
class HeldDatabase:
    name: str
    # LIVE, KEPT (a restore replaced it) or SCRATCH (one was building it).
    kind: str
    size_bytes: int


@dataclass(frozen=True)
class HeldStorage:
    """Everything beneath the tenant's prefix, old versions included."""

    # Names, and versions of them.
    objects: int
    versions: int
    size_bytes: int
    # sha256 of the lines "path<TAB>version<TAB>bytes", as the storage lists them.
    list_sha256: str


@dataclass(frozen=True)
class HeldBackup:
    """A backup or an export that the catalogue has."""

    id: str
    # "backup" or "export".
    kind: str
    file: str
    made_at: str
    size_bytes: int | None
    sha256: str | None
    # Whether its files are there; None where that cannot be told now.
    is_there: bool | None


def database_names(tenant_id: str, live: str) -> dict[str, str]:
    """Return {name: kind} of every database that this tenant has or may have."""
    names: dict[str, str] = {}
    for row in Restore.objects.using(CONTROL).filter(tenant_id=tenant_id):
        names |= {row.scratch: SCRATCH, row.kept: KEPT}
    return {name: kind for name, kind in {**names, live: LIVE}.items() if name}


def databases_held(cluster: Cluster, tenant_id: str, live: str) -> list[HeldDatabase]:
    """Return those of them that exist."""
    names = database_names(tenant_id, live)
    return [HeldDatabase(name, names[name], size) for name, size in cluster.database_bytes(list(names)).items()]


def databases_saying(cluster: Cluster, identity: UUID, *, but: Collection[str]) -> tuple[list[str], list[str]]:
    """Return (databases, whatever their names, that say they are that tenant's; those that were not looked into).

    Those in `but` are left out. A database that is not the owner role's is not connected to: what is in it answers for
    whoever owns it, and may run anything.
    """
    found, unseen = [], []
    for name, owner in cluster.database_owners().items():
        if name in but:
            continue
        if owner != cluster.owner:
            unseen.append(name)
            continue
        try:
            with owner_connection(cluster.server, name, "count") as connection:
                if is_of(connection, identity):
                    found.append(name)
        except Error:
            unseen.append(name)
    return found, unseen


def rows_held(cluster: Cluster, live: str) -> dict[str, int]:
    """Return {table: rows} of the tenant's database; {} where it is gone or cannot be read."""
    try:
        with (
            owner_connection(cluster.server, live, "count") as connection,
            transaction.atomic(using=connection.alias),
        ):
            census = census_take(connection)
    except Error:
        return {}
    return census.rows if census else {}


def storage_held(tenant_id: str) -> HeldStorage:
    """Look through the tenant's files. Raises `StorageError`."""
    digest, paths, versions, size_bytes, last = hashlib.sha256(), 0, 0, 0, None
    for found in versions_of(tenant_id):
        digest.update(f"{found.path}\t{found.version}\t{found.size_bytes}\n".encode())
        paths += found.path != last
        versions += 1
        size_bytes += found.size_bytes
        last = found.path
    return HeldStorage(paths, versions, size_bytes, digest.hexdigest())


def backups_of(tenant: Tenant | str) -> list[Backup]:
    """Return what the catalogue has of the tenant and is not gone, oldest first.

    One that `backup prune` removed is still there in a bucket that keeps versions.
    """
    tenant_id = tenant if isinstance(tenant, str) else tenant.id
    found = Backup.objects.using(CONTROL).filter(tenant_id=tenant_id).order_by("started_at")
    return [backup for backup in found if backup.status != BackupStatus.REMOVED or is_there(backup)]


def backups_held(tenant_id: str) -> list[HeldBackup]:
    """Look for each of them where the catalogue says that it is."""
    return [_looked_for(backup) for backup in backups_of(tenant_id)]


def _looked_for(backup: Backup) -> HeldBackup:
    return HeldBackup(
        id=str(backup.pk),
        kind=backup.kind,
        file=f"{backup.place}/{backup.name}",
        made_at=backup.started_at.isoformat(),
        size_bytes=backup.size_bytes,
        sha256=((backup.manifest or {}).get("file") or {}).get("sha256"),
        is_there=is_there(backup),
    )
