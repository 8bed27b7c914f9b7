"""Sources of a restore: a backup file, or a database on a scratch server recovered to a point in time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Protocol, cast

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from config.base.databases import CONTROL
from tenants.backup.dump import dump, format_of, load
from tenants.backup.manifest import MAX_BYTES, SUFFIX, Manifest, ManifestFile, manifest_read
from tenants.errors import TenantError
from tenants.files.age_encryption import SUFFIX as SEALED
from tenants.files.age_encryption import age_identity_require, is_sealed, unsealed
from tenants.files.files_read import Given, location_of, reading_end
from tenants.files.locations import MissingFromPlace, Place, source_file
from tenants.files.streams import Peeked, Tally
from tenants.models import Backup, DatabaseServer
from tenants.pitr.recover_server import Target, recovered_server
from tenants.restore.load_limits import LoadGuard
from tenants.restore.scratch_database import Scratch

# Enough bytes to recognize the format.
BEGINNING_BYTES = 64


# Raised without a tenant id, which callers add.
class Unfit(TenantError):
    """The source of a restore is damaged or is not what was expected."""

    code = "backup_corrupt"


class UnknownHistory(Unfit):
    """The source has migrations that this code does not know, or lacks a migration that another one depends on."""

    code = "history_unknown"


class Source(Protocol):
    @property
    def description(self) -> str:
        """Return the text that describes the source to operators and in records."""

    @property
    def manifest(self) -> Manifest | None:
        """Return the manifest to check the result against; None if there is none."""

    @property
    def is_ours(self) -> bool:
        """Return whether this installation made the source (catalogued with its digest, or read from our server).

        Only then can schema drift be accepted (`tenants.restore.proof.prove`).
        """

    @property
    def dump_bytes(self) -> int | None:
        """Return the stored size of the dump, 0 for a pipe; None if it comes straight from a recovered server."""

    def load_into(self, scratch: Scratch, guard: LoadGuard, *, work: str) -> None:
        """Fill the empty scratch database, as its guest; raise `TenantError` on failure."""


@dataclass(frozen=True)
class BackupFile:
    """A dump in a folder, in a bucket or on standard input, with its manifest, if any."""

    place: Place
    name: str
    manifest: Manifest | None
    # Whether this installation's catalogue lists the backup.
    is_ours: bool
    age_identity_file: str | None = None
    # Digest of the manifest beside the dump; "" if there is none.
    manifest_sha256: str = ""

    @property
    def description(self) -> str:
        return self.place.path(self.name)

    @property
    def dump_bytes(self) -> int | None:
        return self.place.size(self.name)

    def given(self, *, with_storage: bool) -> Given:
        """Return the files that will be read, so that the caller can record them first.

        `with_storage` includes the tar file of the tenant's files.
        """
        names = {self.name: ""}
        if self.manifest_sha256:
            names[self.name + SUFFIX] = self.manifest_sha256
        if with_storage and self.manifest and self.manifest.storage:
            names[self.manifest.storage.name] = ""
        return Given(self.place, names, self.manifest.identity if self.manifest else None)

    def load_into(self, scratch: Scratch, guard: LoadGuard, *, work: str) -> None:
        expected = self.manifest.file if self.manifest else None
        with opened(self.place, self.name, expected, self.age_identity_file) as stream:
            load_stream(stream, scratch, guard, work=work)


@dataclass(frozen=True)
class ServerDatabase:
    """A database on a recovered server (`recovered_server`); it is never changed."""

    server: DatabaseServer
    database: str
    description: str
    manifest: Manifest | None = None
    is_ours: bool = True
    dump_bytes: int | None = None

    def load_into(self, scratch: Scratch, guard: LoadGuard, *, work: str) -> None:
        version = scratch.server_session.major_version
        # Not as the owner: at that time the owner may have been another role, or may not have existed.
        dump(
            self.server,
            self.database,
            version,
            lambda stream: load_stream(stream, scratch, guard, work=work),
            work=work,
            compress=False,
            as_owner=False,
            on_start=guard.watch,
        )


def load_stream(stream: IO[bytes], scratch: Scratch, guard: LoadGuard, *, work: str) -> None:
    """Load a dump in the custom or plain format, within the guard's limits; raise `TenantError` on failure."""
    beginning = stream.read(BEGINNING_BYTES)
    load(
        scratch.url,
        scratch.server_session.major_version,
        guard.counted(cast(IO[bytes], Peeked(beginning, stream))),
        dump_format=format_of(beginning),
        work=work,
        on_start=guard.watch,
    )


@contextmanager
def state_at(server: DatabaseServer, database: str, to_time: datetime | None, *, work: str) -> Iterator[ServerDatabase]:
    """Yield the database as it was at `to_time` (aware); `work` is the operation's id, or a new UUID for a drill."""
    with recovered_server(server, Target(time=to_time), work=work, database=database) as recovered:
        yield ServerDatabase(recovered, database, described(to_time))


def described(to_time: datetime | None) -> str:
    """Describe the state at that time for operators and records. A restore without a backup file always has a time."""
    assert to_time is not None
    return _("the state at %(time)s") % {"time": to_time.isoformat()}


def backup_find(url: str, age_identity_file: str | None) -> BackupFile:
    """Return the backup at `url` ("-": standard input), with its manifest checked against the catalogue.

    If the manifest is gone, the catalogue's copy is used; standard input has none. Raises `PlaceError` if a file cannot
    be read, `SealError` if the age identity is missing or unusable, `InvalidManifest`, or `Unfit`.
    """
    age_identity_require(age_identity_file)
    place, name = source_file(url)
    size_bytes = place.size(name)
    if size_bytes is None:
        raise MissingFromPlace(_("%(path)s does not exist.") % {"path": place.path(name)})
    place.require_readable(name)
    if location_of(place, name).is_stream:
        return BackupFile(place, name, None, False, age_identity_file)
    if size_bytes == 0:
        raise Unfit(_("%(path)s is empty.") % {"path": place.path(name)})
    catalogued = Backup.objects.using(CONTROL).filter(place=place.url, name=name, manifest__isnull=False).first()
    kept = Manifest.model_validate({**(catalogued.manifest or {}), "artifacts": []}) if catalogued else None
    beside = _manifest_beside(place, name)
    manifest = manifest_read(beside, place.path(name + SUFFIX)) if beside is not None else kept
    if manifest is not None and manifest.file.size_bytes != size_bytes:
        raise Unfit(
            ngettext(
                "%(path)s has %(found)d byte, but its manifest says %(wanted)d.",
                "%(path)s has %(found)d bytes, but its manifest says %(wanted)d.",
                size_bytes,
            )
            % {"path": place.path(name), "found": size_bytes, "wanted": manifest.file.size_bytes}
        )
    if kept and manifest and kept.file.sha256 != manifest.file.sha256:
        raise Unfit(_("The manifest of %(path)s does not match the catalogue.") % {"path": place.path(name)})
    if name.endswith(SEALED) or (manifest and manifest.recipient):
        age_identity_require(age_identity_file, needed=True)
    digest = hashlib.sha256(beside).hexdigest() if beside is not None else ""
    return BackupFile(place, name, manifest, kept is not None, age_identity_file, digest)


@contextmanager
def opened(
    place: Place, name: str, expected: ManifestFile | None, age_identity_file: str | None
) -> Iterator[IO[bytes]]:
    """Yield the file's content, decrypted if necessary; raise `Unfit` if the file's digest is not the expected one.

    The digest covers the whole file, so it is only known at the end. If it differs, `Unfit` replaces a `TenantError`
    that was raised during reading, since the damage probably caused that error. The caller must already have recorded
    the read (`BackupFile.given`).
    """
    with place.open(name) as file, place.reading(name):
        tally = Tally(file)
        try:
            beginning = tally.read(BEGINNING_BYTES)
            stored = cast(IO[bytes], Peeked(beginning, cast(IO[bytes], tally)))
            if is_sealed(beginning):
                with unsealed(stored, age_identity_file) as stream:
                    yield stream
            else:
                yield stored
        except TenantError as error:
            _require_digest(place, name, tally, expected, error)
            raise
        _require_digest(place, name, tally, expected, None)


def _require_digest(
    place: Place, name: str, tally: Tally, expected: ManifestFile | None, cause: Exception | None
) -> None:
    tally.drain()
    reading_end(place, name, sha256=tally.sha256, size_bytes=tally.size_bytes)
    if expected is not None and tally.sha256 != expected.sha256:
        raise Unfit(_("The sha256 of %(path)s differs from the manifest's.") % {"path": place.path(name)}) from cause


def _manifest_beside(place: Place, name: str) -> bytes | None:
    if (place.size(name + SUFFIX) or 0) > MAX_BYTES:
        raise Unfit(
            _("The manifest %(path)s is larger than %(limit)d MiB, the most that seo-gen reads.")
            % {"path": place.path(name + SUFFIX), "limit": MAX_BYTES // 2**20}
        )
    try:
        return place.read(name + SUFFIX)
    except MissingFromPlace:
        return None
