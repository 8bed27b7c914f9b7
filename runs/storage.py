"""The active tenant's files: `storage/{tenant_id}/{run_id}/{step}/output.json` and `…/{step}/artifacts/{name}`.

Outputs that were replaced are kept, under the same names, in `…/{step}/versions/{version}/`.

Every path is checked against the active tenant, so that no other tenant's file can be read or written: any other path
raises `InvalidPath`. Files live in Django's storage "artifacts" (file system or S3). `write_once` is for files that
several workers may write at once: the holder of a claim, and a worker that does not know yet that it has lost it.
"""

import hashlib
import re
from collections.abc import Mapping
from uuid import UUID

from django.utils.translation import gettext as _

from runs.errors import DigestMismatch, InvalidPath, MissingFile
from runs.types import StoredFile
from tenants.files import tenant_storage
from tenants.files.tenant_storage import prefix_of
from tenants.routing.context import current_tenant

_STEP = r"[a-z][a-z0-9_]{0,62}"
_NAME = r"[a-z0-9][a-z0-9_-]{0,62}\.[a-z0-9]{1,10}"
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_VERSION = r"versions/[1-9][0-9]{0,9}"
# The part after "storage/{tenant_id}/".
_REST = re.compile(rf"{_UUID}/{_STEP}/(?:{_VERSION}/)?(?:output\.json|artifacts/{_NAME})")


def output_path(run_id: UUID, step: str) -> str:
    """Return the path of a step's output for the active tenant."""
    return _checked(f"{_folder(run_id, step)}/output.json")


def artifact_path(run_id: UUID, step: str, name: str) -> str:
    """Return the path of a step's artifact for the active tenant."""
    return _checked(f"{_folder(run_id, step)}/artifacts/{name}")


def version_path(path: str, version: int) -> str:
    """Return where a step's file at `path` is kept once another version of the step replaces it."""
    tenant, run, step, rest = path.removeprefix("storage/").split("/", maxsplit=3)
    return _checked(f"storage/{tenant}/{run}/{step}/versions/{version}/{rest}")


def is_version_path(path: str) -> bool:
    """Return whether the file belongs to a version that was replaced."""
    return re.search(rf"/{_VERSION}/(?:output\.json|artifacts/{_NAME})$", path) is not None


def write(path: str, content: bytes) -> StoredFile:
    """Write `content` to `path`, replacing any file atomically. Raises `StorageError`."""
    return write_all({path: content})[0]


def write_all(files: Mapping[str, bytes]) -> list[StoredFile]:
    """Write each content to its path, in order (`tenants.files.tenant_storage.write_all`). Raises `StorageError`."""
    tenant_storage.write_all({_checked(path): content for path, content in files.items()})
    return [stored(path, content) for path, content in files.items()]


def stored(path: str, content: bytes) -> StoredFile:
    """Return the `StoredFile` that describes a file with this content."""
    return StoredFile(path, digest_of(content), len(content))


def write_once(path: str, content: bytes) -> bytes:
    """Write `content` to `path` unless a file exists; return the content that is there now. Raises `StorageError`."""
    while not tenant_storage.create(_checked(path), content):
        present = read_unverified(path)
        if present is not None:
            return present
    return content


def read(path: str, digest: str | None) -> bytes:
    """Return the file's content after checking its sha256 against `digest`.

    Raises `DigestMismatch`, `MissingFile`, `InvalidPath`, or `StorageError` if the file cannot be read now.
    """
    content = read_unverified(path)
    if content is None:
        raise MissingFile(_("Storage: %(path)s is missing.") % {"path": path}, hint=_restore_hint(path))
    if digest is None:
        raise DigestMismatch(
            _("Storage: no sha256 is recorded for %(path)s, so it cannot be checked.") % {"path": path}
        )
    if digest_of(content) != digest:
        raise DigestMismatch(
            _("Storage: the sha256 of %(path)s differs from the recorded one.") % {"path": path},
            hint=_restore_hint(path),
        )
    return content


def _restore_hint(path: str) -> str:
    if is_version_path(path):
        return _("Restore the file from a backup that contains it.")
    return _(
        "Restore the file from a backup that contains it. If the run has failed or is paused, you can also retry it"
        " from the step that wrote the file."
    )


def read_unverified(path: str) -> bytes | None:
    """Return a file's content without checking its digest; None if there is no file. Raises `StorageError`."""
    return tenant_storage.read(_checked(path))


def digest_of(content: bytes) -> str:
    """Return the sha256 as lower-case hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def is_path_of(tenant_id: str, path: str) -> bool:
    """Return whether this module could have built the path for the tenant."""
    prefix = prefix_of(tenant_id)
    return path.startswith(prefix) and _REST.fullmatch(path.removeprefix(prefix)) is not None


def _folder(run_id: UUID, step: str) -> str:
    return f"{prefix_of(current_tenant('storage').id)}{run_id}/{step}"


def _checked(path: str) -> str:
    if not is_path_of(current_tenant("storage").id, path):
        raise InvalidPath(
            _("The storage path %(path)r is not a valid path of tenant %(tenant)s.")
            % {"path": path, "tenant": current_tenant().id}
        )
    return path
