"""The bundle: a tar file with a tenant's dump, files and audit log, and the LLM configuration that the tenant needs.

So that a bundle can be read as a stream, its members are in this order: manifest.json, with the digests of the others;
control.json, with providers, models, prices and pipeline; audit.jsonl, the audit log with its chain; dump; storage.tar.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import IO, cast

from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from pydantic import ValidationError

from audit.log.chain_check import ChainHead
from audit.log.file_format import lines_check
from llm.transfer import LLMConfiguration
from tenants.backup.manifest import MAX_BYTES, Manifest, ManifestFile, manifest_read
from tenants.files.age_encryption import is_sealed, unsealed
from tenants.files.files_read import reading_end
from tenants.files.locations import Place
from tenants.files.streams import CHUNK_BYTES, Peeked, Tally
from tenants.files.tar import File, content_of, tar_open, tar_read
from tenants.restore.sources import BEGINNING_BYTES, Unfit

MANIFEST, CONTROL_ROWS, AUDIT, DUMP, STORAGE = "manifest.json", "control.json", "audit.jsonl", "dump", "storage.tar"
# Parts that are read into memory, and their maximum size, which is far more than any installation needs.
IN_MEMORY = (MANIFEST, CONTROL_ROWS)
MAX_DOCUMENT_BYTES = MAX_BYTES
MAX_LINE_BYTES = 16 * 2**20
# The maximum number of files that no row refers to; such files are left behind by restores.
UNREFERENCED_FILES = 10_000


@dataclass(frozen=True)
class BundlePart:
    """A complete part, ready to be written."""

    name: str
    content: IO[bytes]
    size_bytes: int
    sha256: str

    @property
    def stored(self) -> ManifestFile:
        return ManifestFile(name=self.name, sha256=self.sha256, size_bytes=self.size_bytes)


def part_of(name: str, content: bytes) -> BundlePart:
    return BundlePart(name, io.BytesIO(content), len(content), hashlib.sha256(content).hexdigest())


def bundle_write(parts: list[BundlePart], target: IO[bytes]) -> None:
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for part in parts:
            member = tarfile.TarInfo(part.name)
            member.size = part.size_bytes
            part.content.seek(0)
            archive.addfile(member, part.content)


@contextmanager
def bundle_open(place: Place, name: str, age_identity_file: str | None) -> Iterator[Bundle]:
    """Yield a bundle for reading, decrypted if necessary. Record the read before you store anything from the bundle.

    `tenants.files.files_read` does that. Raises `Unfit` or `BadArchive` if the file is damaged or not a bundle,
    `InvalidManifest`, `SealError` if it cannot be decrypted, or `PlaceError` if it cannot be read.
    """
    with place.open(name) as file, place.reading(name):
        tally = Tally(file)
        beginning = tally.read(BEGINNING_BYTES)
        stored = cast(IO[bytes], Peeked(beginning, cast(IO[bytes], tally)))
        if is_sealed(beginning):
            with unsealed(stored, age_identity_file) as stream, _reading(stream) as bundle:
                yield bundle
        else:
            with _reading(stored) as bundle:
                yield bundle
        tally.drain()
        reading_end(place, name, sha256=tally.sha256, size_bytes=tally.size_bytes)


@contextmanager
def _reading(stream: IO[bytes]) -> Iterator[Bundle]:
    with _damage_as_unfit():
        archive = tar_open(stream)
    with closing(archive):
        yield Bundle(archive)


class Bundle:
    """A bundle, which is read from beginning to end; each part must match the manifest."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._expected: dict[str, ManifestFile] = {}
        with _damage_as_unfit():
            content = self._next(MANIFEST).read()
        self.manifest: Manifest = manifest_read(content, MANIFEST)
        self._expected = {part.name: part for part in self.manifest.parts}

    def size_of(self, name: str) -> int | None:
        """Return the part's size in bytes according to the manifest; None if the manifest does not list the part."""
        return self._expected[name].size_bytes if name in self._expected else None

    def control_rows(self) -> LLMConfiguration:
        with self.part(CONTROL_ROWS) as stream:
            content = stream.read()
        try:
            return LLMConfiguration.model_validate_json(content)
        except ValidationError as error:
            raise Unfit(_("%(part)s is not valid.") % {"part": CONTROL_ROWS}) from error

    def audit_check(self) -> tuple[int | None, ChainHead]:
        """Verify the audit log's chain; return what `audit.log.file_format.lines_check` returns."""
        with self.part(AUDIT) as stream:
            return lines_check(_lines(stream), self.manifest.chain_identity)

    def skip(self, name: str) -> None:
        """Read a part to its end in order to check it against the manifest."""
        with self.part(name):
            pass

    @contextmanager
    def part(self, name: str) -> Iterator[IO[bytes]]:
        """Yield a part as a stream. Raises `Unfit` if the part does not match the manifest.

        Name and size are checked at once, the digest at the end of the block.
        """
        with _damage_as_unfit():
            tally = Tally(self._next(name))
            yield cast(IO[bytes], tally)
            tally.drain()
        expected = self._expected.get(name)
        if expected is None or expected.sha256 != tally.sha256:
            raise Unfit(_("The sha256 of %(part)s differs from the manifest's.") % {"part": name})

    def files(self, stream: IO[bytes]) -> Iterator[File]:
        """Yield the files in `stream`, the part STORAGE. Raises `BadArchive`, also for many more files than rows."""
        return tar_read(stream, at_most=len(self.manifest.artifacts) + UNREFERENCED_FILES)

    def end(self) -> None:
        """Raise `Unfit` if another part follows."""
        with _damage_as_unfit():
            more = self._archive.next()
        if more is not None:
            raise Unfit(_("The file contains %(part)r after the last part of a bundle.") % {"part": more.name})

    def _next(self, name: str) -> IO[bytes]:
        """Return the next part's content. Raises `Unfit` for an unexpected part, without reading it."""
        member = self._archive.next()
        if member is None or member.name != name:
            raise Unfit(
                _("The file is not a seo-gen bundle, or is incomplete: %(part)s should come next.") % {"part": name}
            )
        content = content_of(self._archive, member)
        if name in IN_MEMORY and member.size > MAX_DOCUMENT_BYTES:
            raise Unfit(
                _("%(part)s is larger than %(limit)d MiB, the most that seo-gen reads.")
                % {"part": name, "limit": MAX_DOCUMENT_BYTES // 2**20}
            )
        expected = self.size_of(name)
        if name != MANIFEST and expected is None:
            raise Unfit(_("%(part)s is not in the manifest.") % {"part": name})
        if name != MANIFEST and member.size != expected:
            raise Unfit(
                ngettext(
                    "%(part)s has %(found)d byte, but the manifest says %(wanted)s.",
                    "%(part)s has %(found)d bytes, but the manifest says %(wanted)s.",
                    member.size,
                )
                % {"part": name, "found": member.size, "wanted": expected}
            )
        return content


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of a part. Raises `Unfit` for a line longer than MAX_LINE_BYTES."""
    rest = b""
    while chunk := stream.read(CHUNK_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
        if len(rest) > MAX_LINE_BYTES:
            raise Unfit(
                _("%(part)s contains a line longer than %(limit)d MiB, the most that seo-gen reads.")
                % {"part": AUDIT, "limit": MAX_LINE_BYTES // 2**20}
            )
    if rest:
        yield rest


@contextmanager
def _damage_as_unfit() -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, ValueError, UnicodeDecodeError) as error:
        raise Unfit(_("The file is not a seo-gen bundle, or is damaged.")) from error
