"""Which files people gave the product to read, recorded before their content is used (`tenants.models.FileRead`).

The catalogue knows what the product wrote; this is about the rest: a dump that somebody brought, a bundle from another
installation, standard input. docs/adr/0012-erasure.md says what an erasure does with them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet

from audit.log.actor import current_actor
from config.base.databases import CONTROL
from tenants.files.locations import Folder, Place
from tenants.models import FileRead

# What files are read for. What `tenants.backup.standard_output` writes has a `BackupKind` instead.
RESTORE, CLONE, IMPORT, VERIFY, DRILL = "restore", "clone", "import", "verify", "drill"


@dataclass(frozen=True)
class Reader:
    """A tenant that a file is read for, or whose data it is said to hold."""

    tenant_id: str
    identity: UUID


@dataclass(frozen=True)
class Given:
    """A file that somebody named, with what stands beside it and is read with it."""

    place: Place
    # By name: the sha256 of what was read already, such as a manifest; "" of what is going to be read.
    names: Mapping[str, str]
    # The identity that its manifest has; None where there is none.
    holds: UUID | None = None


@dataclass(frozen=True)
class Location:
    """Where a file really is."""

    place: str
    name: str
    is_stream: bool = False


def location_of(place: Place, name: str) -> Location:
    """Follow links: whoever erases later needs the file itself. A pipe gets its number, since all have one name."""
    if not isinstance(place, Folder):
        return Location(place.url, name)
    path = Path(place.path(name))
    try:
        found = path.stat()
    except OSError:  # it will be told of by whoever reads it
        return Location(place.url, name)
    if not stat.S_ISREG(found.st_mode):
        return Location(place.url, f"{name} ({found.st_ino})", is_stream=True)
    real = Path(os.path.realpath(path))
    return Location(str(real.parent), real.name)


def reading_begin(given: Given, *, purpose: str, readers: Sequence[Reader]) -> None:
    """Record that the files are about to be read; call it in the transaction of the entry that says what for."""
    for name, sha256 in given.names.items():
        where = location_of(given.place, name)
        for reader in {one.identity: one for one in readers}.values():
            rows = _rows(where).filter(identity=reader.identity)
            if sha256:
                rows.filter(sha256=sha256).delete()
            rows.create(
                place=where.place,
                name=where.name,
                is_stream=where.is_stream,
                tenant_id=reader.tenant_id,
                identity=reader.identity,
                purpose=purpose,
                holds=given.holds,
                sha256=sha256,
                user_id=current_actor().user_id,
                operation_id=_operation(),
            )


def reading_end(place: Place, name: str, *, sha256: str, size_bytes: int) -> None:
    """Note what the file was, as all of it has been read."""
    rows = _rows(location_of(place, name))
    with transaction.atomic(using=CONTROL):
        for row in rows.filter(sha256="", operation_id=_operation()).select_for_update():
            # Read before, with the same content: one row says so, with the newer reading.
            rows.filter(identity=row.identity, sha256=sha256).delete()
            row.sha256, row.size_bytes = sha256, size_bytes
            row.save(using=CONTROL, update_fields=["sha256", "size_bytes"])


def holding_proven(given: Given, identity: UUID) -> None:
    """Note whose data came out of the files: that of the tenant with this identity."""
    for name in given.names:
        _rows(location_of(given.place, name)).filter(holds=None, operation_id=_operation()).update(holds=identity)


def _rows(where: Location) -> QuerySet[FileRead]:
    return FileRead.objects.using(CONTROL).filter(place=where.place, name=where.name)


def _operation() -> str:
    return current_actor().operation_id or ""
