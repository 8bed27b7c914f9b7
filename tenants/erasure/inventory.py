"""Find everything that belongs to a tenant, and where it is, in order to erase it and to verify the erasure later."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.db.utils import Error

from config.base.databases import CONTROL
from tenants.backup.backup_files import is_there, names_of
from tenants.files.locations import Folder, MissingFromPlace, Place, PlaceError, place_at
from tenants.files.streams import Tally
from tenants.files.tenant_storage import versions_of
from tenants.models import Backup, BackupKind, BackupStatus, FileRead, Restore, Tenant
from tenants.routing.owner_connection import owner_connection
from tenants.schema.row_counts import census_take, is_of
from tenants.servers.session import ServerSession

# The kinds of a tenant's databases.
LIVE, KEPT, SCRATCH = "live", "kept", "scratch"


@dataclass(frozen=True)
class HeldDatabase:
    name: str
    # LIVE, KEPT (a restore replaced it) or SCRATCH (a restore was building it).
    kind: str
    size_bytes: int


@dataclass(frozen=True)
class HeldStorage:
    """Everything under the tenant's prefix, including old versions."""

    # The numbers of names and of versions.
    objects: int
    versions: int
    size_bytes: int
    # sha256 of the lines "path<TAB>version<TAB>bytes", as the storage lists them.
    list_sha256: str


# Whether a file that was read is still in the same location.
THERE, GONE, OUT_OF_REACH, STREAM = "there", "gone", "out of reach", "stream"


@dataclass(frozen=True)
class HeldFile:
    """A file or stream that may contain the tenant's data, or the data that the tenant was made from.

    The product read it for the tenant, or wrote it to standard output. The tenant's catalogued backups do not count.
    """

    file: str
    place: str
    name: str
    # For the content that was read, or for the file as it is now if the read was interrupted; None if neither is known.
    sha256: str | None
    size_bytes: int | None
    # "restore", "clone", "import", "verify" or "drill"; "backup" or "export" for standard output. And the time of it.
    purpose: str
    read_at: str
    # THERE, GONE, OUT_OF_REACH or STREAM (standard input or another pipe).
    state: str
    # Whether the file is erased with the tenant: only if it contains the tenant's own data, was read to the end, and is
    # in a location where the product keeps backups. The certificate lists the other files.
    goes: bool


@dataclass(frozen=True)
class HeldBackup:
    """A backup or an export in the catalogue."""

    id: str
    # "backup" or "export".
    kind: str
    file: str
    made_at: str
    size_bytes: int | None
    sha256: str | None
    # Whether the backup's files exist; None if that cannot be checked now.
    is_there: bool | None


def database_names(tenant_id: str, live: str) -> dict[str, str]:
    """Return {name: kind} for every database that this tenant has or may have."""
    names: dict[str, str] = {}
    for row in Restore.objects.using(CONTROL).filter(tenant_id=tenant_id):
        names |= {row.scratch: SCRATCH, row.kept: KEPT}
    return {name: kind for name, kind in {**names, live: LIVE}.items() if name}


def databases_held(server_session: ServerSession, tenant_id: str, live: str) -> list[HeldDatabase]:
    """Return the tenant's databases that exist."""
    names = database_names(tenant_id, live)
    return [HeldDatabase(name, names[name], size) for name, size in server_session.database_bytes(list(names)).items()]


def databases_saying(
    server_session: ServerSession, identity: UUID, *, but: Collection[str]
) -> tuple[list[str], list[str]]:
    """Return (databases with that tenant identity, whatever their names; databases that were not checked).

    Skips the databases in `but`. Does not connect to a database that another role owns, since that role controls what
    the database returns, and could run any code.
    """
    found, unseen = [], []
    for name, owner in server_session.database_owners().items():
        if name in but:
            continue
        if owner != server_session.owner:
            unseen.append(name)
            continue
        try:
            with owner_connection(server_session.server, name, "count") as connection:
                if is_of(connection, identity):
                    found.append(name)
        except Error:
            unseen.append(name)
    return found, unseen


def rows_held(server_session: ServerSession, live: str) -> dict[str, int]:
    """Return {table: rows} for the tenant's database; {} if it is gone or cannot be read."""
    try:
        with (
            owner_connection(server_session.server, live, "count") as connection,
            transaction.atomic(using=connection.alias),
        ):
            census = census_take(connection)
    except Error:
        return {}
    return census.rows if census else {}


def storage_held(tenant_id: str) -> HeldStorage:
    """Return the counts, size and digest of the tenant's files. Raises `StorageError`."""
    digest, paths, versions, size_bytes, last = hashlib.sha256(), 0, 0, 0, None
    for found in versions_of(tenant_id):
        digest.update(f"{found.path}\t{found.version}\t{found.size_bytes}\n".encode())
        paths += found.path != last
        versions += 1
        size_bytes += found.size_bytes
        last = found.path
    return HeldStorage(paths, versions, size_bytes, digest.hexdigest())


def backups_of(tenant: Tenant | str) -> list[Backup]:
    """Return the tenant's catalogued backups and exports, oldest first; a removed one only if a file of it is found.

    A bucket with versioning may still contain a backup that `backup prune` removed.
    """
    tenant_id = tenant if isinstance(tenant, str) else tenant.id
    found = Backup.objects.using(CONTROL).filter(tenant_id=tenant_id).order_by("started_at")
    return [backup for backup in found if backup.status != BackupStatus.REMOVED or is_there(backup)]


def backups_held(tenant_id: str) -> list[HeldBackup]:
    """Return what is known about each of `backups_of`, including whether any of its files is left."""
    return [_backup_held(backup) for backup in backups_of(tenant_id)]


def files_held(tenant_id: str, identity: UUID) -> list[HeldFile]:
    """Return the files and streams that were read for the tenant or may contain its data, sorted by location.

    The files of the tenant's catalogued backups are left out.
    """
    own = _catalogued(Backup.objects.using(CONTROL).filter(tenant_id=tenant_id))
    others = _catalogued(Backup.objects.using(CONTROL).exclude(tenant_id=tenant_id))
    managed = managed_places()
    # Complete reads come first, and take precedence over incomplete reads of the same file.
    rows = FileRead.objects.using(CONTROL).filter(identity=identity).order_by("place", "name", "-sha256", "read_at")
    found: dict[tuple[str, str | None], HeldFile] = {}
    for row in rows:
        if (row.place, row.name) not in own:
            ours = row.holds == identity and (row.place, row.name) not in others and _is_in(row, managed)
            held = _file_held(row, goes=ours)
            found.setdefault((held.file, held.sha256), held)
    return list(found.values())


def managed_places() -> set[str]:
    """Return the locations where the product keeps backups, from the settings and from the catalogue.

    Exports do not count: an operator chose their location, which may contain other files.
    """
    kept = Backup.objects.using(CONTROL).filter(kind=BackupKind.BACKUP).values_list("place", flat=True).distinct()
    configured = [settings.BACKUP_DAILY_OUTPUT, settings.CLUSTER_BACKUP_OUTPUT]
    return {_resolved(url) for url in (*kept, *configured) if url}


def file_digest(place: Place, name: str) -> str | None:
    """Return the sha256 (hex) of the file's content; None if there is no such file. Raises `PlaceError`."""
    try:
        with place.open(name) as file, place.reading(name):
            tally = Tally(file)
            tally.drain()
    except MissingFromPlace:
        return None
    return tally.sha256


def _catalogued(backups: QuerySet[Backup]) -> set[tuple[str, str]]:
    """Return (place, name) for every file of the backups, with links resolved as in `FileRead`."""
    return {(_resolved(backup.place), name) for backup in backups for name in names_of(backup)}


def _resolved(url: str) -> str:
    place = place_at(url)
    return os.path.realpath(place.url) if isinstance(place, Folder) else place.url


def _is_in(row: FileRead, places: set[str]) -> bool:
    return not row.is_stream and any(row.place == one or row.place.startswith(f"{one}/") for one in places)


def _file_held(row: FileRead, *, goes: bool) -> HeldFile:
    state, sha256 = _state_and_digest(row)
    return HeldFile(
        file=place_at(row.place).path(row.name),
        place=row.place,
        name=row.name,
        sha256=sha256,
        size_bytes=row.size_bytes,
        purpose=row.purpose,
        read_at=row.read_at.isoformat(),
        state=state,
        # Without the digest of a complete read, a different file later put in its place could not be told apart.
        goes=goes and bool(row.sha256),
    )


def _state_and_digest(row: FileRead) -> tuple[str, str | None]:
    if row.is_stream:
        return STREAM, row.sha256 or None
    try:
        place = place_at(row.place)
        if place.size(row.name) is None:
            return GONE, row.sha256 or None
        return THERE, row.sha256 or file_digest(place, row.name)
    except PlaceError:
        return OUT_OF_REACH, row.sha256 or None


def _backup_held(backup: Backup) -> HeldBackup:
    return HeldBackup(
        id=str(backup.pk),
        kind=backup.kind,
        file=f"{backup.place}/{backup.name}",
        made_at=backup.started_at.isoformat(),
        size_bytes=backup.size_bytes,
        sha256=((backup.manifest or {}).get("file") or {}).get("sha256"),
        is_there=is_there(backup),
    )
