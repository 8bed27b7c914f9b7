"""The active tenant's files: `storage/{tenant_id}/{run_id}/{step}/output.json` and `…/{step}/artifacts/{name}`.

Every path is formed from the active tenant and validated parts, so that no path of another tenant can be asked for.
Files live in Django's storage "artifacts" (file system or S3). A file is written by the holder of its step's row lock.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from botocore.exceptions import BotoCoreError, ClientError
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, storages
from django.utils.translation import gettext as _

from runs.errors import DigestMismatch, InvalidPath, MissingFile, StorageError
from runs.types import StoredFile
from tenants.context import current_tenant

ALIAS = "artifacts"
ROOT = "storage"
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
    """Put each content at its path, in this order: where the last file is, so are the others.

    On return all of them are on the disk. Raises `StorageError`; the files before the failing one are written then.
    """
    backend = storages[ALIAS]
    changed: set[Path] = set()
    for path, content in files.items():
        _checked(path)
        with _translated(path, _("written")):
            if isinstance(backend, FileSystemStorage):
                changed |= _replace_file(backend, path, content)
            elif backend.save(path, ContentFile(content)) != path:
                raise StorageError(_("Storage: %(path)s could not be replaced.") % {"path": path})
    for folder in sorted(changed):
        with _translated(str(folder), _("written")):
            _flush_folder(folder)
    return [StoredFile(path, digest_of(content), len(content)) for path, content in files.items()]


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
    _checked(path)
    with _translated(path, _("read")):
        try:
            with storages[ALIAS].open(path) as file:
                return bytes(file.read())
        except FileNotFoundError:
            return None


def digest_of(content: bytes) -> str:
    """Return the sha256 as lower-case hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _folder(run_id: UUID, step: str) -> str:
    return f"{ROOT}/{current_tenant('storage').id}/{run_id}/{step}"


def _checked(path: str) -> str:
    prefix = f"{ROOT}/{current_tenant('storage').id}/"
    if not path.startswith(prefix) or not _REST.fullmatch(path.removeprefix(prefix)):
        raise InvalidPath(
            _("Storage: %(path)r is no path of tenant %(tenant)s.") % {"path": path, "tenant": current_tenant().id}
        )
    return path


@contextmanager
def _translated(path: str, what: str) -> Iterator[None]:
    """Turn failures of the disk or of S3 into `StorageError`."""
    try:
        yield
    except (OSError, BotoCoreError, ClientError) as error:
        raise StorageError(
            _("Storage: %(path)s cannot be %(what)s: %(reason)s.")
            % {"path": path, "what": what, "reason": _reason(error)},
            hint=_("Nothing of the file was changed; make room or repair the storage, then try again."),
        ) from error


def _reason(error: Exception) -> str:
    """Return the cause without addresses or keys, which S3's messages may hold."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "S3"))
    return type(error).__name__


def _replace_file(backend: FileSystemStorage, path: str, content: bytes) -> set[Path]:
    """Write beside the target, flush to the disk, rename: a reader sees the old file or the new one, a crash too.

    Returns the folders that the caller must flush. The partial file has one name per target, so that a killed writer
    leaves at most one, which the next replaces.
    """
    target = Path(backend.path(path))
    changed = _make_folders(target.parent, backend.directory_permissions_mode)
    partial = target.with_name(f".{target.name}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if backend.file_permissions_mode is not None:
            partial.chmod(backend.file_permissions_mode)
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return {target.parent, *changed}


def _make_folders(folder: Path, mode: int | None) -> set[Path]:
    """Create what is missing of `folder`, each with `mode` (unlike `os.makedirs`); return those it was added to."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        if mode is not None:
            new.chmod(mode)
    return {new.parent for new in missing}


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
