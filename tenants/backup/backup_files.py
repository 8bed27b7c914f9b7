"""The files of a catalogued backup: their names, whether any are left, and how to erase them."""

from __future__ import annotations

from tenants.backup.manifest import SUFFIX
from tenants.files.age_encryption import SUFFIX as SEALED
from tenants.files.locations import MissingFromPlace, PlaceError, place_at
from tenants.models import Backup


def names_of(backup: Backup) -> list[str]:
    """Return the names that a backup's files may have, manifest first: without it, the rest is not a backup."""
    return [backup.name + SUFFIX, backup.name, storage_name(backup.name)]


def storage_name(name: str) -> str:
    """Return the name of the tar file beside a dump: "a.storage.tar.age" for "a.dump.age"."""
    sealed = SEALED if name.endswith(SEALED) else ""
    return f"{name.removesuffix(SEALED).rpartition('.')[0]}.storage.tar{sealed}"


def is_there(backup: Backup) -> bool | None:
    """Return whether any file of the backup is left, older versions included; None if the location is unreachable."""
    try:
        place = place_at(backup.place)
        return any(place.holds(name) for name in names_of(backup))
    except PlaceError:
        return None


def erase(backup: Backup) -> None:
    """Permanently remove the backup's files, including older versions, manifest first. Safe to repeat.

    Raises `PlaceError`.
    """
    place = place_at(backup.place)
    for name in names_of(backup):
        try:
            place.erase(name)
        except MissingFromPlace:  # the bucket is gone
            return
