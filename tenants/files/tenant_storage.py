"""Tenants' files in Django's storage "artifacts" (file system or S3), by path. Each tenant has its own prefix.

Code that works for one tenant uses `runs.storage`, which builds and checks paths; what reads and writes here does not
check whose path it is given.
"""

from __future__ import annotations

import glob
import io
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any

from botocore.exceptions import BotoCoreError, ClientError
from django.core.exceptions import SuspiciousOperation
from django.core.files.base import ContentFile, File
from django.core.files.storage import FileSystemStorage, storages
from django.utils.translation import gettext as _

from tenants.errors import StorageError
from tenants.files import s3_deletion
from tenants.files.locations import (
    NO_HARD_LINKS,
    TAKEN,
    UNCONDITIONAL,
    Use,
    flush_folder,
    hint_of_place,
    reason_of_place,
)
from tenants.files.streams import copy_stream

# With these, a server that is overloaded or broken refuses for now only.
PASSING = frozenset(
    {
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)

ALIAS = "artifacts"
ROOT = "storage"
# Folder under a tenant's prefix for files that restores replaced, by operation; no run can have this name.
KEPT = ".kept"
# A partial file older than this counts as abandoned, since no writer takes that long.
ABANDONED_S = 3600

# Content to write: bytes, or an open file positioned at its start.
Content = bytes | IO[bytes]


@dataclass(frozen=True)
class StoredObject:
    path: str
    size_bytes: int


def prefix_of(tenant_id: str) -> str:
    return f"{ROOT}/{tenant_id}/"


def is_beneath(tenant_id: str, path: str) -> bool:
    """Return True if the path stays within the tenant's prefix; check this before using a path from a row or manifest.

    `runs.storage` also checks what a path names: a run, a step and a file.
    """
    prefix = prefix_of(tenant_id)
    return path.startswith(prefix) and is_safe(path.removeprefix(prefix))


def is_safe(name: str) -> bool:
    """Return True if a name, appended to a prefix, stays within that prefix."""
    parts = name.split("/")
    return bool(name) and "\\" not in name and "\0" not in name and not any(part in ("", ".", "..") for part in parts)


def kept_path(tenant_id: str, operation_id: object, path: str) -> str:
    """Return the path under which a restore keeps the file that it replaces at `path`."""
    return f"{prefix_of(tenant_id)}{KEPT}/{operation_id}/{path.removeprefix(prefix_of(tenant_id))}"


def objects_of(tenant_id: str, *, kept: bool = False) -> Iterator[StoredObject]:
    """Yield the tenant's files, or with `kept` those that restores replaced, sorted by path."""
    prefix = prefix_of(tenant_id)
    for stored in _listing(prefix):
        if stored.path.startswith(f"{prefix}{KEPT}/") == kept:
            yield stored


@dataclass(frozen=True)
class StoredVersion:
    """One stored version of a file."""

    path: str
    # "" in a storage without versions.
    version: str
    size_bytes: int


def versions_of(tenant_id: str) -> Iterator[StoredVersion]:
    """Yield everything stored under the tenant's prefix, sorted by path, including the files that restores replaced.

    On disk, partial files are included too; in S3, older versions and delete markers.
    """
    prefix, backend = prefix_of(tenant_id), storages[ALIAS]
    with _translated(prefix, Use.READ):
        if isinstance(backend, FileSystemStorage):
            root = Path(backend.path(""))
            for path in sorted(Path(backend.path(prefix)).rglob("*")):
                if path.is_symlink() or not path.is_dir():
                    yield StoredVersion(path.relative_to(root).as_posix(), "", path.lstat().st_size)
        else:
            for found in s3_deletion.versions(*_bucket(backend), prefix):
                yield StoredVersion(found.key, found.version, found.size_bytes)


def refusal_of(tenant_id: str) -> str:
    """Return why the storage refuses to list the tenant's files and unfinished uploads; "" if it does not refuse.

    If the storage is unreachable or overloaded, "" is returned too: that may pass, whereas a refusal would remain.
    """
    backend = storages[ALIAS]
    if isinstance(backend, FileSystemStorage):
        return ""
    client, bucket = _bucket(backend)
    try:
        for listing in (s3_deletion.versions, s3_deletion.uploads):
            next(iter(listing(client, bucket, prefix_of(tenant_id))), None)
    except ClientError as error:
        return "" if s3_deletion.status_of(error) in PASSING else reason_of_place(error)
    except BotoCoreError:
        pass
    return ""


def erase_all(tenant_id: str) -> int:
    """Permanently remove what `versions_of` yields, and unfinished uploads to S3; return the number of versions.

    Raises `StorageError`. Safe to repeat.
    """
    prefix, backend = prefix_of(tenant_id), storages[ALIAS]
    with _translated(prefix, Use.REMOVE):
        if isinstance(backend, FileSystemStorage):
            count = sum(1 for _version in versions_of(tenant_id))
            folder = Path(backend.path(prefix))
            if folder.exists():
                shutil.rmtree(folder)
                flush_folder(folder.parent)
            return count
        client, bucket = _bucket(backend)
        s3_deletion.abort_uploads(client, bucket, prefix)
        return s3_deletion.erase(client, bucket, s3_deletion.versions(client, bucket, prefix))


def place_of(tenant_id: str) -> str:
    """Return the location of the tenant's files, for display."""
    backend = storages[ALIAS]
    if isinstance(backend, FileSystemStorage):
        return str(backend.path(prefix_of(tenant_id)))
    return f"s3://{_bucket(backend)[1]}/{prefix_of(tenant_id)}"


def _bucket(backend: Any) -> tuple[Any, str]:
    return backend.connection.meta.client, backend.bucket_name


def write_all(files: Mapping[str, Content]) -> None:
    """Write each content to its path, in the given order, so that the last file is written only after the others.

    Each file is replaced atomically. On return, all files are durable. Raises `StorageError`; the files before the one
    that failed are then already written.
    """
    backend = storages[ALIAS]
    changed: set[Path] = set()
    for path, content in files.items():
        with _translated(path, Use.WRITE):
            if isinstance(backend, FileSystemStorage):
                changed |= _replace_file(backend, path, content)
            elif backend.save(path, _file(content)) != path:
                raise StorageError(
                    _("Storage: %(path)s could not be replaced.") % {"path": path}, code="storage_unavailable"
                )
    for folder in sorted(changed):
        with _translated(str(folder), Use.WRITE):
            flush_folder(folder)


def create(path: str, content: bytes) -> bool:
    """Create the file atomically; return False if it already exists. Raises `StorageError`.

    The file system or S3 decides which writer came first, so a process that was frozen here overwrites nothing when it
    resumes. If this is not supported (by a file system without hard links, or an S3-compatible server without
    conditional writes), we first check whether the file exists, which leaves a small race.
    """
    backend = storages[ALIAS]
    with _translated(path, Use.WRITE):
        if not isinstance(backend, FileSystemStorage):
            return _create_object(backend, path, content)
        created, changed = _create_file(backend, path, content)
    for folder in sorted(changed):
        with _translated(str(folder), Use.WRITE):
            flush_folder(folder)
    return created


def read(path: str) -> bytes | None:
    """Return the file's content; None if the file does not exist. Raises `StorageError` if it cannot be read."""
    with _translated(path, Use.READ):
        try:
            with storages[ALIAS].open(path) as file:
                return bytes(file.read())
        except FileNotFoundError:
            return None


def remove(paths: Iterable[str]) -> int:
    """Remove the files, and folders that become empty; return the number of paths. Raises `StorageError`.

    A path without a file is not an error.
    """
    backend = storages[ALIAS]
    count = 0
    for path in paths:
        with _translated(path, Use.REMOVE):
            backend.delete(path)
            if isinstance(backend, FileSystemStorage):
                _remove_empty(Path(backend.path(path)).parent, Path(backend.path(ROOT)))
        count += 1
    return count


def _listing(prefix: str) -> Iterator[StoredObject]:
    backend = storages[ALIAS]
    with _translated(prefix, Use.READ):
        if isinstance(backend, FileSystemStorage):
            root = Path(backend.path(""))
            for path in sorted(Path(backend.path(prefix)).rglob("*")):
                if path.is_file() and not path.name.endswith(".partial"):
                    yield StoredObject(path.relative_to(root).as_posix(), path.stat().st_size)
        else:
            for item in backend.bucket.objects.filter(Prefix=prefix):  # type: ignore[attr-defined]
                yield StoredObject(item.key, item.size)


@contextmanager
def _translated(path: str, what: Use) -> Iterator[None]:
    """Turn disk and S3 errors, and errors for paths outside the storage, into `StorageError`."""
    try:
        yield
    except (SuspiciousOperation, UnicodeError) as error:
        raise StorageError(
            _impossible(what) % {"path": path},
            hint=_("Correct the path in the database row or the file that it comes from."),
            code="storage_path_unusable",
        ) from error
    except (OSError, BotoCoreError, ClientError) as error:
        raise StorageError(
            _unusable(what) % {"path": path, "reason": reason_of_place(error)},
            hint=hint_of_place(error)
            or _("Check the storage's connection, free space and permissions, then try again."),
            code="storage_unavailable",
        ) from error


def _impossible(what: Use) -> str:
    match what:
        case Use.READ:
            return _("Storage: %(path)r is not a path that can be read.")
        case Use.WRITE:
            return _("Storage: %(path)r is not a path that can be written.")
        case Use.REMOVE:
            return _("Storage: %(path)r is not a path that can be removed.")


def _unusable(what: Use) -> str:
    match what:
        case Use.READ:
            return _("Storage: %(path)s cannot be read: %(reason)s.")
        case Use.WRITE:
            return _("Storage: %(path)s cannot be written: %(reason)s.")
        case Use.REMOVE:
            return _("Storage: %(path)s cannot be removed: %(reason)s.")


def _file(content: Content) -> File[bytes]:
    return ContentFile(content) if isinstance(content, bytes) else File(content)


def _replace_file(backend: FileSystemStorage, path: str, content: Content) -> set[Path]:
    """Write beside the target, flush to disk, and rename. Readers see the old or the new file, even after a crash.

    Return the folders that the caller must flush.
    """
    target = Path(backend.path(path))
    changed = _make_folders(target.parent, backend.directory_permissions_mode)
    with _written_beside(backend, target, content) as partial:
        partial.replace(target)
    return {target.parent, *changed}


def _create_file(backend: FileSystemStorage, path: str, content: bytes) -> tuple[bool, set[Path]]:
    """Create the target unless it exists, atomically if hard links are possible; return (created, folders to flush)."""
    target = Path(backend.path(path))
    if target.exists():
        return False, set()
    changed = _make_folders(target.parent, backend.directory_permissions_mode)
    with _written_beside(backend, target, content) as partial:
        try:
            target.hardlink_to(partial)
        except FileExistsError:
            return False, set()
        except OSError as error:
            if error.errno not in NO_HARD_LINKS:
                raise
            partial.replace(target)
    return True, {target.parent, *changed}


@contextmanager
def _written_beside(backend: FileSystemStorage, target: Path, content: Content) -> Iterator[Path]:
    """Yield a partial file that contains the content, flushed to disk; remove the file afterwards.

    Each writer has its own partial file. The partial files of killed writers are removed later by another writer.
    """
    partial = target.with_name(f".{target.name}.{secrets.token_hex(8)}.partial")
    for left in target.parent.glob(f".{glob.escape(target.name)}*.partial"):
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > ABANDONED_S:
                left.unlink()
    try:
        with open(partial, "wb") as file:
            copy_stream(io.BytesIO(content) if isinstance(content, bytes) else content, file)
            file.flush()
            os.fsync(file.fileno())
        if backend.file_permissions_mode is not None:
            partial.chmod(backend.file_permissions_mode)
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def _create_object(backend: Any, path: str, content: bytes) -> bool:
    client, bucket = _bucket(backend)
    key = backend._normalize_name(path)
    parameters = backend._get_write_parameters(path, ContentFile(content))
    try:
        client.put_object(Bucket=bucket, Key=key, Body=content, IfNoneMatch="*", **parameters)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in TAKEN:
            return False
        if code not in UNCONDITIONAL:
            raise
        if backend.exists(path):
            return False
        backend.save(path, ContentFile(content))
    return True


def _make_folders(folder: Path, mode: int | None) -> set[Path]:
    """Create missing folders, all with `mode` (unlike `os.makedirs`); return the parent of each new folder."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        if mode is not None:
            new.chmod(mode)
    return {new.parent for new in missing}


def _remove_empty(folder: Path, root: Path) -> None:
    """Remove `folder` and its parents below `root`, as long as they are empty. Some may be gone already."""
    while folder != root and root in folder.parents:
        if folder.exists():
            if any(folder.iterdir()):
                return
            folder.rmdir()
        folder = folder.parent
