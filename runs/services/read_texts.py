"""Read a run's texts for a person, and record who read them.

This is not part of `runs.services.read`, because storage is slow to import.
"""

from django.db import transaction

from audit.log.entries import record
from runs.models import Artifact, Step
from runs.storage import read


def artifact_read(*, alias: str, artifact: Artifact) -> bytes:
    """Return the file's content once its digest is verified and the access is recorded.

    Raises `DigestMismatch`, `MissingFile`, `InvalidPath` or `StorageError`.
    """
    content = read(artifact.file_path, artifact.digest)
    details: dict[str, object] = {"run_id": str(artifact.run_id), "path": artifact.file_path, "digest": artifact.digest}
    _record_read(alias, "artifact", artifact.pk, details)
    return content


def output_read(*, alias: str, step: Step) -> bytes:
    """Return the content of a step's `output.json`, as `artifact_read` does."""
    content = read(str(step.output_path), step.output_digest)
    details: dict[str, object] = {"run_id": str(step.run_id), "path": step.output_path, "digest": step.output_digest}
    _record_read(alias, "step", step.pk, details)
    return content


def _record_read(alias: str, kind: str, key: int, details: dict[str, object]) -> None:
    with transaction.atomic(using=alias):
        record(using=alias, action="artifact.read", resource_type=kind, resource_id=str(key), details=details)
