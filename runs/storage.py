"""The active tenant's files: `storage/{tenant_id}/{run_id}/{step}/output.json` and `…/{step}/artifacts/{name}`.

Every path is formed from the active tenant and validated parts, so that no path of another tenant can be asked for.
Files live in Django's storage "artifacts" (file system or S3). A file is written by the holder of its step's row lock,
or by who held it until the server took it away: `write_once` is for what both may write.
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
# What follows "storage/{tenant_id}/".
_REST = re.compile(rf"{_UUID}/{_STEP}/(?:output\.json|artifacts/{_NAME})")


def output_path(run_id: UUID, step: str) -> str:
    """Return where the active tenant keeps a step's result."""
    return _checked(f"{_folder(run_id, step)}/output.json")


def artifact_path(run_id: UUID, step: str, name: str) -> str:
    """Return where the active tenant keeps a file that a step made."""
    return _checked(f"{_folder(run_id, step)}/artifacts/{name}")


def write(path: str, content: bytes) -> StoredFile:
    """Put `content` at `path`, replacing what is there at once or not at all; raise `StorageError`."""
    return write_all({path: content})[0]


def write_all(files: Mapping[str, bytes]) -> list[StoredFile]:
    """Put each content at its path, in this order (`tenants.files.tenant_storage.write_all`); raise `StorageError`."""
    tenant_storage.write_all({_checked(path): content for path, content in files.items()})
    return [stored(path, content) for path, content in files.items()]


def stored(path: str, content: bytes) -> StoredFile:
    """Describe a file whose content is known."""
    return StoredFile(path, digest_of(content), len(content))


def write_once(path: str, content: bytes) -> bytes:
    """Put `content` at `path` unless something is there already; return what is there now. Raises `StorageError`."""
    while not tenant_storage.create(_checked(path), content):
        present = read_unverified(path)
        if present is not None:
            return present
    return content


def read(path: str, digest: str | None) -> bytes:
    """Return the file's content once its sha256 is `digest`.

    Raises `DigestMismatch`, `MissingFile`, or `StorageError` where it cannot be read now.
    """
    content = read_unverified(path)
    if content is None:
        raise MissingFile(_("Storage: %(path)s is missing.") % {"path": path})
    if digest_of(content) != digest:
        raise DigestMismatch(
            _("Storage: %(path)s is not what was written: its sha256 differs from the recorded one.") % {"path": path},
            hint=_("Restore the file from a backup, or run the step again."),
        )
    return content


def read_unverified(path: str) -> bytes | None:
    """Return a file whose digest no row records (yet), None where there is none; raise `StorageError`."""
    return tenant_storage.read(_checked(path))


def digest_of(content: bytes) -> str:
    """Return the sha256 as lower-case hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def is_path_of(tenant_id: str, path: str) -> bool:
    """Tell whether the path is one that this module forms for the tenant."""
    prefix = prefix_of(tenant_id)
    return path.startswith(prefix) and _REST.fullmatch(path.removeprefix(prefix)) is not None


def _folder(run_id: UUID, step: str) -> str:
    return f"{prefix_of(current_tenant('storage').id)}{run_id}/{step}"


def _checked(path: str) -> str:
    if not is_path_of(current_tenant("storage").id, path):
        raise InvalidPath(
            _("Storage: %(path)r is no path of tenant %(tenant)s.") % {"path": path, "tenant": current_tenant().id}
        )
    return path
