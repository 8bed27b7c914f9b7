"""Places for backups, bundles and archived WAL. A place is a folder, or an S3 bucket with a prefix.

A file appears under its name only once it is complete.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from enum import Enum, auto
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings
from django.utils.translation import gettext as _

from tenants.errors import TenantError
from tenants.files import s3_deletion
from tenants.files.streams import CHUNK_BYTES

S3_SCHEME = "s3://"
# The usual name for standard input or output.
STANDARD = "-"
# A streamed upload keeps this much in memory. S3 allows 10,000 parts, so a file can have at most 156 GiB.
PART_BYTES = 16 * 2**20
# Errors whose messages quote a key.
ABOUT_KEYS = frozenset({"SignatureDoesNotMatch", "InvalidAccessKeyId", "InvalidToken", "ExpiredToken"})
# Maximum length of a quoted S3 message.
SENTENCE_CHARACTERS = 300
# No access for others, since backups contain customer data.
FILE_MODE, FOLDER_MODE = 0o600, 0o700


# The errors of file systems without hard links.
NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
# S3's errors if the object exists or another request is creating it; and the errors from S3-compatible servers
# without conditional writes.
TAKEN = ("PreconditionFailed", "412", "ConditionalRequestConflict")
UNCONDITIONAL = ("NotImplemented", "501", "InvalidArgument", "InvalidRequest")


class Use(Enum):
    """The operation attempted on a file."""

    READ = auto()
    WRITE = auto()
    REMOVE = auto()


class PlaceError(TenantError):
    """A place is invalid, or a file in it cannot be read, written or removed: the disk is full, say."""


class MissingFromPlace(PlaceError):
    """The file or the bucket does not exist."""

    code = "file_not_found"


class AlreadyInPlace(PlaceError):
    """A file of that name already exists, and must not be replaced."""

    code = "file_exists"

    def __init__(self, path: str) -> None:
        super().__init__(_("%(path)s already exists.") % {"path": path}, hint=_("Choose another name."))


class Place(ABC):
    """A folder or bucket. File names are relative to it, with "/" as the separator."""

    # As on the command line: an absolute path or s3://bucket/prefix.
    url: str

    def __init__(self) -> None:
        # Names of files fully written through this object; any other file may be a partial one to clean up.
        self.completed: set[str] = set()

    @abstractmethod
    def writing(self, name: str, *, replace: bool = True) -> Any:
        """Return a context manager that yields a binary file to write; the file is kept only if the block succeeds.

        Unless `replace`, raises `AlreadyInPlace` after the block if a file of that name exists by then. If the file
        system or the S3 server cannot check that atomically, we check just before creating the file, which leaves a
        small race.
        """

    @abstractmethod
    def open(self, name: str) -> IO[bytes]:
        """Open the file for reading; raise `MissingFromPlace` if it does not exist."""

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Return the file's size in bytes; None if the file does not exist."""

    @abstractmethod
    def names(self, prefix: str = "") -> Iterator[str]:
        """Yield the names of complete files, limited to names that start with `prefix`."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove the file and any partial file left by a killed writer; do nothing if neither exists."""

    @abstractmethod
    def erase(self, name: str) -> None:
        """Permanently remove the file, including older versions that the place keeps."""

    @abstractmethod
    def holds(self, name: str) -> bool:
        """Return whether anything is left of the file; a partial file, old version or unfinished upload counts."""

    @abstractmethod
    def write_locked(self, name: str, content: bytes, until: datetime | None) -> None:
        """Write a small file that no one, not even its owner, can remove before `until` (None: no lock).

        Raises `PlaceError` if a lock is requested and the place cannot lock files.
        """

    @abstractmethod
    def versions(self, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """Yield (name, content) of every kept version, including those of removed files, sorted by name."""

    def require_new(self, name: str) -> None:
        """Raise `AlreadyInPlace` if the file exists."""
        if self.size(name) is not None:
            raise AlreadyInPlace(self.path(name))

    def write(self, name: str, content: bytes) -> None:
        with self.writing(name) as file:
            file.write(content)

    def read(self, name: str) -> bytes:
        with self.open(name) as file, self._translated(name, Use.READ):
            return file.read()

    def require_readable(self, name: str) -> None:
        """Raise `PlaceError` if the file, which must exist, cannot be opened; in a bucket, nothing is checked."""
        return

    @abstractmethod
    def require_writable(self, name: str = "") -> None:
        """Raise `PlaceError` if a quick check shows that the place (or the file, if named) cannot be written to.

        Leaves nothing behind. Call this before asking for confirmation or starting a long operation. Free space is not
        checked.
        """

    def reading(self, name: str) -> AbstractContextManager[None]:
        """Return a context manager that turns failures to read the opened file into `PlaceError`."""
        return self._translated(name, Use.READ)

    def path(self, name: str) -> str:
        """Return the file's path or URL, for display."""
        return f"{self.url.rstrip('/')}/{name}" if name else self.url

    @contextmanager
    def _translated(self, name: str, what: Use) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if what is not Use.READ:
                raise self._failure(name, what, error) from error
            raise MissingFromPlace(_("%(path)s does not exist.") % {"path": self.path(name)}) from error
        except (OSError, BotoCoreError, ClientError) as error:
            code = error.response.get("Error", {}).get("Code") if isinstance(error, ClientError) else None
            if code in ("404", "NoSuchKey", "NoSuchBucket"):
                missing = self.path("" if code == "NoSuchBucket" else name)
                raise MissingFromPlace(_("%(path)s does not exist.") % {"path": missing}) from error
            raise self._failure(name, what, error) from error

    def _failure(self, name: str, what: Use, error: Exception) -> PlaceError:
        return PlaceError(
            _unusable(what) % {"path": self.path(name), "reason": reason_of_place(error)},
            hint=hint_of_place(error),
            code="place_unavailable",
        )


def _unusable(what: Use) -> str:
    match what:
        case Use.READ:
            return _("%(path)s cannot be read: %(reason)s.")
        case Use.WRITE:
            return _("%(path)s cannot be written: %(reason)s.")
        case Use.REMOVE:
            return _("%(path)s cannot be removed: %(reason)s.")


def reason_of_place(error: Exception) -> str:
    """Return the cause of the error: S3's own message, if any, without the keys that it may quote."""
    if isinstance(error, ClientError):
        said = error.response.get("Error", {})
        code, message = str(said.get("Code") or "S3"), _without_keys(str(said.get("Message") or ""))
        return code if code in ABOUT_KEYS or not message else f"{code}: {message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__


def hint_of_place(error: Exception) -> str:
    """Return a hint if the error may mean that an S3-compatible server does not support a request, otherwise ""."""
    if not isinstance(error, ClientError) or (
        s3_deletion.status_of(error) != s3_deletion.MALFORMED and not s3_deletion.is_unknown(error)
    ):
        return ""
    return _("The S3 server sent this message; docs/configuration.md lists the settings for S3-compatible servers.")


def _without_keys(message: str) -> str:
    """Return the first line of the message, shortened, with our keys and anything that looks like a key id masked."""
    line = next(iter(message.strip().splitlines()), "")[:SENTENCE_CHARACTERS].rstrip(". ")
    for key in (settings.AWS_ACCESS_KEY_ID, settings.AWS_SECRET_ACCESS_KEY):
        if key:
            line = line.replace(key, "***")
    return re.sub(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}", "***", line)


class Folder(Place):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self.url = str(path)

    def exists(self) -> bool:
        return self._path.is_dir()

    @contextmanager
    def writing(self, name: str, *, replace: bool = True) -> Iterator[IO[bytes]]:
        """Write the file beside the target, flush it to disk, rename it, and flush the folders."""
        target = self._path / name
        partial = _partial(target)
        with self._translated(name, Use.WRITE):
            new = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]
            target.parent.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)
            file = os.fdopen(self._claim(partial, name), "wb")
        try:
            with self._translated(name, Use.WRITE):
                yield file
                file.flush()
                os.fsync(file.fileno())
                # Still open, and so locked.
                if replace:
                    partial.replace(target)
                else:
                    self._give_name(partial, name)
                file.close()
                for folder in {target.parent, *(made.parent for made in new)}:
                    flush_folder(folder)
            self.completed.add(name)
        except BaseException:
            # If the disk is full, close() fails too, which must not hide the original error.
            with suppress(OSError):
                file.close()
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise

    def _claim(self, partial: Path, name: str) -> int:
        """Create the partial file and lock it; return its descriptor. Raises `PlaceError` if another writer has it.

        The lock ends with its process, so a partial file that a killed writer left behind is replaced.
        """
        while True:
            with suppress(FileExistsError):
                descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
                # Another writer may have taken it for a leftover before it was locked.
                if _lock(descriptor) and _is_at(descriptor, partial):
                    return descriptor
                os.close(descriptor)
                continue
            self._remove_leftover(partial, name)

    def _remove_leftover(self, partial: Path, name: str) -> None:
        try:
            # A link that someone put there is not followed, and may lead nowhere.
            descriptor = -1 if partial.is_symlink() else os.open(partial, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return
        try:
            if descriptor >= 0 and not _lock(descriptor):
                raise PlaceError(
                    _("%(path)s is being written by another process.") % {"path": self.path(name)},
                    hint=_("Wait for it to finish, or choose another name."),
                    code="file_being_written",
                )
            if descriptor < 0 or _is_at(descriptor, partial):
                partial.unlink(missing_ok=True)
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _give_name(self, partial: Path, name: str) -> None:
        """Give the finished file its name; raise `AlreadyInPlace` if another file has it."""
        target = self._path / name
        try:
            os.link(partial, target)
        except FileExistsError as error:
            raise AlreadyInPlace(self.path(name)) from error
        except OSError as error:
            if error.errno not in NO_HARD_LINKS:
                raise
            self.require_new(name)
            partial.replace(target)
        else:
            partial.unlink()

    def open(self, name: str) -> IO[bytes]:
        with self._translated(name, Use.READ):
            return (self._path / name).open("rb")

    def require_readable(self, name: str) -> None:
        path = self._path / name
        with self._translated(name, Use.READ):
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not os.access(path, os.R_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def require_writable(self, name: str = "") -> None:
        """Try to write in the nearest existing folder; missing folders below it are created later, when needed."""
        target = (self._path / name).parent if name else self._path
        with self._translated(name, Use.WRITE):
            existing = next(folder for folder in (target, *target.parents) if folder.exists())
            if not existing.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            with TemporaryFile(dir=existing):
                pass

    def size(self, name: str) -> int | None:
        with self._translated(name, Use.READ):
            try:
                return (self._path / name).stat().st_size
            except (FileNotFoundError, NotADirectoryError):
                return None

    def names(self, prefix: str = "") -> Iterator[str]:
        with self._translated("", Use.READ):
            for path in sorted(self._path.rglob("*")):
                name = path.relative_to(self._path).as_posix()
                if path.is_file() and name.startswith(prefix) and not path.name.endswith(".partial"):
                    yield name

    def write_locked(self, name: str, content: bytes, until: datetime | None) -> None:
        if until is not None:
            raise PlaceError(
                _("%(url)s is a folder; object lock is not available there.") % {"url": self.url},
                hint=_("Use a bucket with object lock, or set AUDIT_ANCHOR_LOCK_DAYS to 0."),
                code="place_cannot_lock",
            )
        self.write(name, content)

    def versions(self, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        for name in self.names(prefix):
            yield name, self.read(name)

    def remove(self, name: str) -> None:
        target = self._path / name
        with self._translated(name, Use.REMOVE):
            target.unlink(missing_ok=True)
            _partial(target).unlink(missing_ok=True)

    def erase(self, name: str) -> None:
        self.remove(name)
        folder = (self._path / name).parent
        if folder.exists():
            with self._translated(name, Use.REMOVE):
                flush_folder(folder)

    def holds(self, name: str) -> bool:
        target = self._path / name
        with self._translated(name, Use.READ):
            return os.path.lexists(target) or os.path.lexists(_partial(target))


class Bucket(Place):
    def __init__(self, bucket: str, prefix: str) -> None:
        super().__init__()
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self.url = f"{S3_SCHEME}{bucket}/{prefix}".rstrip("/")

    @cached_property
    def _client(self) -> Any:
        # Made only to contact the bucket: it takes far longer than the names and paths that most callers want.
        return s3_client()

    @contextmanager
    def writing(self, name: str, *, replace: bool = True) -> Iterator[IO[bytes]]:
        """Upload the file in parts; the object appears after the last part, or not at all if the block fails."""
        client = self._client if replace else _CreatingClient(self._client, lambda: self.require_new(name))
        with self._translated(name, Use.WRITE):
            url = f"{S3_SCHEME}{self._bucket}/{self._prefix}{name}"
            options = {"client": client, "min_part_size": PART_BYTES}
            with _truncated_responses_translated():
                file = _open_object(url, "wb", compression="disable", transport_params=options)
            try:
                with file:
                    yield file
            except BaseException:
                # Drop the parts if it was the last request that failed.
                with suppress(BotoCoreError, ClientError):
                    file.terminate()
                raise
        self.completed.add(name)

    def open(self, name: str) -> IO[bytes]:
        with self._translated(name, Use.READ):
            self._client.head_object(Bucket=self._bucket, Key=self._prefix + name)
            file: IO[bytes] = _open_object(
                f"{S3_SCHEME}{self._bucket}/{self._prefix}{name}",
                "rb",
                compression="disable",
                transport_params={"client": self._client, "buffer_size": CHUNK_BYTES},
            )
            return file

    def require_writable(self, name: str = "") -> None:
        """Query the bucket. Of S3's error responses, only 404 is a failure: some accounts may write but not query."""
        with self._translated(name, Use.WRITE), _truncated_responses_translated():
            try:
                self._client.head_bucket(Bucket=self._bucket)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") == "404":
                    raise MissingFromPlace(
                        _("The bucket %(bucket)s does not exist.") % {"bucket": f"{S3_SCHEME}{self._bucket}"},
                        hint=_("Create it first, or use another bucket or a folder."),
                    ) from error

    def size(self, name: str) -> int | None:
        try:
            with self._translated(name, Use.READ), _truncated_responses_translated():
                return int(self._client.head_object(Bucket=self._bucket, Key=self._prefix + name)["ContentLength"])
        except MissingFromPlace:
            return None

    def names(self, prefix: str = "") -> Iterator[str]:
        with self._translated(prefix, Use.READ):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            for page in pages:
                yield from (item["Key"].removeprefix(self._prefix) for item in page.get("Contents", []))

    def write_locked(self, name: str, content: bytes, until: datetime | None) -> None:
        """Write the object. The lock is in COMPLIANCE mode, so not even the root user can shorten it.

        With a lock, the bucket must have Object Lock enabled.
        """
        lock = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until} if until else {}
        with self._translated(name, Use.WRITE):
            # S3 accepts a locked object only with a checksum.
            checked = {"ContentMD5": s3_deletion.content_md5(content)}
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=content, **checked, **lock)
        self.completed.add(name)

    def versions(self, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        with self._translated(prefix, Use.READ):
            for found in s3_deletion.versions(self._client, self._bucket, self._prefix + prefix):
                if not found.is_mark:
                    version = {"Bucket": self._bucket, "Key": found.key, "VersionId": found.version}
                    yield found.key.removeprefix(self._prefix), self._client.get_object(**version)["Body"].read()

    def remove(self, name: str) -> None:
        key = self._prefix + name
        with self._translated(name, Use.REMOVE):
            self._client.delete_object(Bucket=self._bucket, Key=key)
            for upload_id in self._uploads(name):
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload_id)

    def erase(self, name: str) -> None:
        with self._translated(name, Use.REMOVE):
            s3_deletion.erase(self._client, self._bucket, self._versions(name))
        self.remove(name)
        with self._translated(name, Use.REMOVE):
            # In a bucket with versioning, `remove` left a delete marker.
            s3_deletion.erase(self._client, self._bucket, self._versions(name))

    def holds(self, name: str) -> bool:
        try:
            with self._translated(name, Use.READ):
                return any(True for _version in self._versions(name)) or any(True for _id in self._uploads(name))
        except MissingFromPlace:
            return False

    def _versions(self, name: str) -> Iterator[s3_deletion.ObjectVersion]:
        key = self._prefix + name
        return (found for found in s3_deletion.versions(self._client, self._bucket, key) if found.key == key)

    def _uploads(self, name: str) -> Iterator[str]:
        """Yield the ids of the file's unfinished uploads."""
        key = self._prefix + name
        return (
            found["UploadId"] for found in s3_deletion.uploads(self._client, self._bucket, key) if found["Key"] == key
        )


class _CreatingClient:
    """An S3 client that completes an upload only if the object does not exist yet; `require_new` raises if it does."""

    def __init__(self, client: Any, require_new: Callable[[], None]) -> None:
        self._client = client
        self._require_new = require_new

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def complete_multipart_upload(self, **values: Any) -> Any:
        return self._conditional(self._client.complete_multipart_upload, values)

    def put_object(self, **values: Any) -> Any:
        return self._conditional(self._client.put_object, values)

    def _conditional(self, send: Callable[..., Any], values: dict[str, Any]) -> Any:
        # Some servers ignore the condition.
        self._require_new()
        try:
            return send(**values, IfNoneMatch="*")
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code")
            if code in TAKEN:
                raise AlreadyInPlace(f"{S3_SCHEME}{values['Bucket']}/{values['Key']}") from error
            if code not in UNCONDITIONAL:
                raise
        return send(**values)


def _open_object(url: str, mode: str, **options: Any) -> Any:
    """Open an object as a stream; `options` are smart_open's."""
    import smart_open.s3  # slow to load (it imports Google's libraries), and not needed for folders

    # boto3 already retries; smart_open's own retries would take a minute and log warnings.
    smart_open.s3.RETRY.exceptions = []
    smart_open.s3.RETRY.client_error_codes = []
    return smart_open.open(url, mode, **options)


@contextmanager
def _truncated_responses_translated() -> Iterator[None]:
    """Turn boto3's KeyError for a response with truncated headers into a connection error."""
    try:
        yield
    except KeyError as error:
        raise OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)) from error


def place_at(url: str) -> Place:
    """Return the place for a folder's path or s3://bucket/prefix; neither access nor create it.

    Raises `PlaceError` for "-", and for an S3 URL without a bucket.
    """
    _require_no_stream(url)
    if url.startswith(S3_SCHEME):
        bucket, _slash, prefix = url.removeprefix(S3_SCHEME).partition("/")
        if not bucket:
            raise PlaceError(
                _("%(url)s lacks a bucket.") % {"url": url}, hint=_("Write s3://bucket/prefix."), code="place_invalid"
            )
        return Bucket(bucket, prefix.strip("/"))
    return Folder(Path(url).expanduser().absolute())


def source_file(url: str) -> tuple[Place, str]:
    """Return (place, name) of a file to read; "-" is standard input."""
    return split_file("/dev/stdin" if url == STANDARD else url)


def split_file(url: str) -> tuple[Place, str]:
    """Return (place, name) of the file with this path or S3 URL. Raises `PlaceError` if it names no file."""
    _require_no_stream(url)
    folder, _slash, name = url.rpartition("/")
    if not name or (url.startswith(S3_SCHEME) and folder in ("s3:/", "s3:")):
        raise PlaceError(_("%(url)s lacks a file name.") % {"url": url}, code="place_invalid")
    return place_at(folder or ("/" if url.startswith("/") else ".")), name


def _require_no_stream(url: str) -> None:
    """Refuse "-" rather than create a file or folder with that name."""
    if url == STANDARD:
        raise PlaceError(
            _("“-” is standard output, but a folder or bucket is needed here."),
            hint=_("Use a folder or s3://bucket/…; for a folder named “-”, write “./-”."),
            code="standard_output_refused",
        )


def s3_client() -> Any:
    """Return a client for the S3 service that the AWS_* settings describe."""
    import boto3  # slow to load, and not needed for folders
    from botocore.config import Config

    # Threads may do this at the same time, which boto3's shared session does not allow.
    return boto3.session.Session().client(
        "s3",
        endpoint_url=settings.AWS_S3_ENDPOINT_URL,
        region_name=settings.AWS_S3_REGION_NAME,
        aws_access_key_id=settings.AWS_ACCESS_KEY_ID,
        aws_secret_access_key=settings.AWS_SECRET_ACCESS_KEY,
        config=Config(
            connect_timeout=5,
            read_timeout=60,
            retries={"total_max_attempts": 3, "mode": "standard"},
            request_checksum_calculation=settings.AWS_REQUEST_CHECKSUM_CALCULATION,
            response_checksum_validation=settings.AWS_RESPONSE_CHECKSUM_VALIDATION,
        ),
    )


def flush_folder(folder: Path) -> None:
    """Make renames within the folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Lock the open file, and return True unless another writer has locked it; also True if it cannot be locked."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether the open file is the one at `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False


def _partial(target: Path) -> Path:
    return target.with_name(f".{target.name}.partial")
