"""Keep the outputs that a new version of a step replaces: copies of their files, and rows that refer to the copies.

The copies are made before the transaction that inserts the rows. A copy that no transaction followed is harmless: no
row refers to it, and the next try reuses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from uuid import UUID

from django.utils import timezone

from audit.log.actor import current_actor
from runs.errors import DigestMismatch, MissingFile
from runs.models import Artifact, Step
from runs.storage import digest_of, is_version_path, read, read_unverified, version_path, write

# `Artifact.file_type` of a replaced `output.json`.
OUTPUT = "output"


@dataclass(frozen=True)
class Replaced:
    """A current file of a step whose output is about to be replaced."""

    step: str
    version: int
    path: str
    digest: str | None
    # Whether the step's output was truncated at a limit.
    is_truncated: bool
    # The file's row; None for `output.json`, which the step itself refers to.
    artifact: Artifact | None

    @property
    def kept_path(self) -> str:
        return version_path(self.path, self.version)


def files_to_keep(alias: str, steps: Iterable[Step]) -> list[Replaced]:
    """Return the current files of those steps that have an output."""
    return [file for step in steps if step.output_path is not None for file in _files_of(alias, step)]


def keep(file: Replaced) -> int | None:
    """Copy the file to where its version is kept, unless it was copied before; return its size in bytes.

    Returns None if the file is missing or cannot be verified: the step is then run again without keeping it. Raises
    `StorageError`.
    """
    copied = read_unverified(file.kept_path)
    if copied is not None and digest_of(copied) == file.digest:
        return len(copied)
    try:
        content = read(file.path, file.digest)
    except (MissingFile, DigestMismatch):
        return None
    return write(file.kept_path, content).size_bytes


def record_kept(alias: str, run_id: UUID, sizes: Mapping[Replaced, int | None]) -> None:
    """Make the rows refer to the copies. A file that could not be kept loses its row; the audit entry names it."""
    for file, size_bytes in sizes.items():
        artifact = file.artifact
        if artifact is not None and size_bytes is None:
            Artifact.objects.using(alias).filter(pk=artifact.pk).delete()
        elif artifact is not None:
            Artifact.objects.using(alias).filter(pk=artifact.pk).update(
                file_path=file.kept_path, metadata={**_known(artifact), **_replacement(file)}
            )
        elif size_bytes is not None:
            Artifact.objects.using(alias).create(
                run_id=run_id,
                step=file.step,
                file_type=OUTPUT,
                file_path=file.kept_path,
                digest=file.digest,
                metadata={"size_bytes": size_bytes, **_replacement(file)},
            )


def _files_of(alias: str, step: Step) -> Iterator[Replaced]:
    yield Replaced(step.step, step.version, str(step.output_path), step.output_digest, step.is_truncated, None)
    for artifact in Artifact.objects.using(alias).filter(run_id=step.run_id, step=step.step).order_by("pk"):
        if not is_version_path(artifact.file_path):
            yield Replaced(step.step, step.version, artifact.file_path, artifact.digest, step.is_truncated, artifact)


def _known(artifact: Artifact) -> dict[str, object]:
    return artifact.metadata if isinstance(artifact.metadata, dict) else {}


def _replacement(file: Replaced) -> dict[str, object]:
    return {
        "version": file.version,
        "replaced_at": timezone.now().isoformat(),
        "replaced_by": current_actor().user_id,
        **({"is_truncated": True} if file.is_truncated else {}),
    }
