"""Which files a catalogued backup consists of, and whether anything of them is left."""

from __future__ import annotations

from tenants.backup.manifest import SUFFIX
from tenants.files.age_encryption import SUFFIX as SEALED
from tenants.files.locations import MissingFromPlace, PlaceError, place_at
from tenants.models import Backup


def names_of(backup: Backup) -> list[str]:
    """Return the files that a backup may consist of, the manifest first: without it the rest is no backup."""
    return [backup.name + SUFFIX, backup.name, storage_name(backup.name)]


def storage_name(name: str) -> str:
    """Name the archive of files beside a dump: "a.dump.age" has "a.storage.tar.age"."""
    sealed = SEALED if name.endswith(SEALED) else ""
    return f"{name.removesuffix(SEALED).rpartition('.')[0]}.storage.tar{sealed}"


def is_there(backup: Backup) -> bool | None:
    """Tell whether anything of the backup is left, older versions included; None where its place is out of reach."""
    try:
        place = place_at(backup.place)
        return any(place.holds(name) for name in names_of(backup))
    except PlaceError:
        return None


def erase(backup: Backup) -> None:
    """Remove its files for good, the manifest first, older versions too; raise `PlaceError`. May be repeated."""
    place = place_at(backup.place)
    for name in names_of(backup):
        try:
            place.erase(name)
        except MissingFromPlace:  # its bucket is gone
            return
