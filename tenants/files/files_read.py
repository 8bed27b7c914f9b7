"""Records of files that operators gave the product to read (`FileRead`), made before the files' content is used.

The catalogue lists the backups and exports that the product wrote to files. These records also cover other files: a
dump from elsewhere, a bundle from another installation, standard input. docs/adr/0012-erasure.md explains what an
erasure does with them.
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

# Purposes of reading a file. Records made by `tenants.backup.standard_output` have a `BackupKind` instead.
RESTORE, CLONE, IMPORT, VERIFY, DRILL = "restore", "clone", "import", "verify", "drill"


@dataclass(frozen=True)
class Reader:
    """A tenant for which a file is read, or whose data the file claims to contain."""

    tenant_id: str
    identity: UUID


@dataclass(frozen=True)
class Given:
    """A file that an operator specified, and the files beside it that are read with it."""

    place: Place
    # {name: SHA-256} for a file that has already been read, such as a manifest; {name: ""} for one still to be read.
    names: Mapping[str, str]
    # The tenant identity in the file's manifest; None if there is no manifest.
    holds: UUID | None = None


@dataclass(frozen=True)
class Location:
    """The real location of a file."""

    place: str
    name: str
    is_stream: bool = False


def location_of(place: Place, name: str) -> Location:
    """Return the file's location; links to a regular file are resolved, since an erasure must refer to the file itself.

    For anything else, such as a pipe, the inode number is added to the name, since all pipes have the same name.
    """
    if not isinstance(place, Folder):
        return Location(place.url, name)
    path = Path(place.path(name))
    try:
        found = path.stat()
    except OSError:  # reading the file will report this
        return Location(place.url, name)
    if not stat.S_ISREG(found.st_mode):
        return Location(place.url, f"{name} ({found.st_ino})", is_stream=True)
    real = Path(os.path.realpath(path))
    return Location(str(real.parent), real.name)


def reading_begin(given: Given, *, purpose: str, readers: Sequence[Reader]) -> None:
    """Record the files before their content is used; call this in the transaction that writes the audit entry."""
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
    """Record the file's digest and size once all of it has been read."""
    rows = _rows(location_of(place, name))
    with transaction.atomic(using=CONTROL):
        for row in rows.filter(sha256="", operation_id=_operation()).select_for_update():
            # If the same content was read before, keep only the newer row.
            rows.filter(identity=row.identity, sha256=sha256).delete()
            row.sha256, row.size_bytes = sha256, size_bytes
            row.save(using=CONTROL, update_fields=["sha256", "size_bytes"])


def holding_proven(given: Given, identity: UUID) -> None:
    """Record that the files have been proven to contain the data of the tenant with this identity."""
    for name in given.names:
        _rows(location_of(given.place, name)).filter(holds=None, operation_id=_operation()).update(holds=identity)


def _rows(where: Location) -> QuerySet[FileRead]:
    return FileRead.objects.using(CONTROL).filter(place=where.place, name=where.name)


def _operation() -> str:
    return current_actor().operation_id or ""
