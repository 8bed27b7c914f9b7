"""The one file in which a tenant moves out: a tar archive of its dump, files, audit log and what it needs besides.

Members, in this order, so that it can be read as a stream: manifest.json, which has the digests of the others;
control.json, providers, models and pipeline; audit.jsonl, the audit log with its chain; dump; storage.tar.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, cast

from django.utils.translation import gettext as _
from pydantic import ValidationError

from llm.transfer import LLMConfiguration
from tenants.files_read import reading_end
from tenants.manifest import Manifest, StoredFile, manifest_read
from tenants.places import Place
from tenants.sealing import is_sealed, unsealed
from tenants.sources import BEGINNING_BYTES, Unfit
from tenants.streams import Peeked, Tally

MANIFEST, CONTROL_ROWS, AUDIT, DUMP, STORAGE = "manifest.json", "control.json", "audit.jsonl", "dump", "storage.tar"
# Of what is read into memory: far more than any installation's.
MAX_DOCUMENT_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Part:
    """A finished part, to be written."""

    name: str
    content: IO[bytes]
    size_bytes: int
    sha256: str

    @property
    def stored(self) -> StoredFile:
        return StoredFile(name=self.name, sha256=self.sha256, size_bytes=self.size_bytes)


def part_of(name: str, content: bytes) -> Part:
    return Part(name, io.BytesIO(content), len(content), hashlib.sha256(content).hexdigest())


def bundle_write(parts: list[Part], target: IO[bytes]) -> None:
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for part in parts:
            member = tarfile.TarInfo(part.name)
            member.size = part.size_bytes
            part.content.seek(0)
            archive.addfile(member, part.content)


@contextmanager
def bundle_open(place: Place, name: str, identity_file: str | None) -> Iterator[Bundle]:
    """Yield a bundle for reading, decrypted where it is encrypted; raise `Unfit` where it is damaged or is none.

    Whoever uses more of it than its manifest has recorded that it is read (`tenants.files_read`).
    """
    with place.open(name) as file, place.reading(name):
        tally = Tally(file)
        beginning = tally.read(BEGINNING_BYTES)
        stored = cast(IO[bytes], Peeked(beginning, cast(IO[bytes], tally)))
        if is_sealed(beginning):
            with unsealed(stored, identity_file) as stream:
                yield Bundle(stream)
        else:
            yield Bundle(stored)
        tally.drain()
        reading_end(place, name, sha256=tally.sha256, size_bytes=tally.size_bytes)


class Bundle:
    """A bundle that is read from its beginning to its end; each part must be what the manifest says."""

    def __init__(self, stream: IO[bytes]) -> None:
        with _damage_told():
            self._archive = tarfile.open(fileobj=stream, mode="r|")  # noqa: SIM115  (lives as long as the stream)
        content = self._document(MANIFEST)
        self.manifest: Manifest = manifest_read(content, MANIFEST)
        self._expected = {part.name: part for part in self.manifest.parts}

    def control_rows(self) -> LLMConfiguration:
        content = self._verified_document(CONTROL_ROWS)
        try:
            return LLMConfiguration.model_validate_json(content)
        except ValidationError as error:
            raise Unfit(_("%(part)s is not valid") % {"part": CONTROL_ROWS}) from error

    def audit(self) -> bytes:
        """Return the audit log, one JSON document a line."""
        return self._verified_document(AUDIT)

    @contextmanager
    def part(self, name: str) -> Iterator[IO[bytes]]:
        """Yield a part as a stream; at the block's end it must have been what the manifest says."""
        with _damage_told():
            tally = Tally(self._next(name))
            yield cast(IO[bytes], tally)
            tally.drain()
        self._require(name, tally.sha256)

    def _verified_document(self, name: str) -> bytes:
        content = self._document(name)
        self._require(name, hashlib.sha256(content).hexdigest())
        return content

    def _document(self, name: str) -> bytes:
        with _damage_told():
            content = self._next(name).read(MAX_DOCUMENT_BYTES + 1)
        if len(content) > MAX_DOCUMENT_BYTES:
            raise Unfit(_("%(part)s is larger than any of ours") % {"part": name})
        return content

    def _next(self, name: str) -> IO[bytes]:
        member = self._archive.next()
        content = self._archive.extractfile(member) if member and member.name == name and member.isfile() else None
        if content is None:
            raise Unfit(_("it is no bundle of ours, or was cut off: %(part)s is missing") % {"part": name})
        return content

    def _require(self, name: str, sha256: str) -> None:
        expected = self._expected.get(name)
        if expected is None or expected.sha256 != sha256:
            raise Unfit(_("%(part)s is not what was written: its sha256 is not the manifest's") % {"part": name})


@contextmanager
def _damage_told() -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, ValueError, UnicodeDecodeError) as error:
        raise Unfit(
            _("it is no bundle of ours, or was damaged: %(reason)s") % {"reason": type(error).__name__}
        ) from error
