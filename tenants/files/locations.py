"""Where backups, bundles and archived WAL are kept: a folder, or a bucket of S3 with a prefix.

A file appears under its name when it is complete and safe, or not at all.
"""

from __future__ import annotations

import errno
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import datetime
from enum import Enum, auto
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings
from django.utils.translation import gettext as _

from tenants.errors import TenantError
from tenants.files import s3_versions
from tenants.files.streams import CHUNK_BYTES

S3_SCHEME = "s3://"
# What everybody takes for standard input or output.
STANDARD = "-"
# What a streamed upload keeps in memory. S3 takes 10,000 parts at most, so this bounds a file at 160 GB.
PART_BYTES = 16 * 2**20
# Errors whose sentence says what a key is or was.
ABOUT_KEYS = frozenset({"SignatureDoesNotMatch", "InvalidAccessKeyId", "InvalidToken", "ExpiredToken"})
# Of what S3 says.
SENTENCE_CHARACTERS = 300
# Backups hold customers' data.
FILE_MODE, FOLDER_MODE = 0o600, 0o700


class Use(Enum):
    """What was tried with a file."""

    READ = auto()
    WRITE = auto()
    REMOVE = auto()


class PlaceError(TenantError):
    """A place cannot be written or read now: no space, no permission, S3 out of reach."""


class MissingFromPlace(PlaceError):
    """There is no file of that name."""

    code = "file_not_found"


class Place(ABC):
    """Names are relative, with "/" between folders."""

    # As it is given on the command line: an absolute path or s3://bucket/prefix.
    url: str

    def __init__(self) -> None:
        # What was completed through this object: what need not be removed where a place cannot be reached any more.
        self.completed: set[str] = set()

    @abstractmethod
    def writing(self, name: str) -> Any:
        """Return a context manager that yields a binary file; the file is kept where the block ends well."""

    @abstractmethod
    def open(self, name: str) -> IO[bytes]:
        """Return the file for reading; raise `MissingFromPlace` where there is none."""

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Return the file's size in bytes, None where there is none."""

    @abstractmethod
    def names(self, prefix: str = "") -> Iterator[str]:
        """Yield the names of the complete files that begin with `prefix`."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove the file, and what a killed writer left of it; nothing where there is none."""

    @abstractmethod
    def erase(self, name: str) -> None:
        """Remove the file for good: older versions of it too, where the place keeps any."""

    @abstractmethod
    def holds(self, name: str) -> bool:
        """Tell whether there is anything of the file: a version, or what a killed writer left."""

    @abstractmethod
    def write_locked(self, name: str, content: bytes, until: datetime | None) -> None:
        """Write a small file that nobody, its owner included, can remove before `until` (None: without a lock)."""

    @abstractmethod
    def versions(self, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """Yield (name, content) of every version that is kept, of removed and overwritten files too, by name."""

    def write(self, name: str, content: bytes) -> None:
        with self.writing(name) as file:
            file.write(content)

    def read(self, name: str) -> bytes:
        with self.open(name) as file, self._translated(name, Use.READ):
            return file.read()

    def require_readable(self, name: str) -> None:
        """Raise `PlaceError` where the file is there and cannot be opened; nothing is read."""
        return

    @abstractmethod
    def require_writable(self, name: str = "") -> None:
        """Raise `PlaceError` if no file can be written to the place (under the name); nothing of the attempt is left.

        For whoever is about to ask or to do something that takes long. It does not say that there is enough space.
        """

    def reading(self, name: str) -> AbstractContextManager[None]:
        """Return a context in which failures to read the opened file become `PlaceError`."""
        return self._translated(name, Use.READ)

    def path(self, name: str) -> str:
        """Return where the file is, for people."""
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
                raise MissingFromPlace(_("%(path)s does not exist.") % {"path": self.path(name)}) from error
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
    """Return the cause: S3's own sentence, if there is one, without keys, which it may hold."""
    if isinstance(error, ClientError):
        said = error.response.get("Error", {})
        code, message = str(said.get("Code") or "S3"), _without_keys(str(said.get("Message") or ""))
        return code if code in ABOUT_KEYS or not message else f"{code}: {message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__


def hint_of_place(error: Exception) -> str:
    """Return what helps where a server that is compatible with S3 does not take a request; "" for all else."""
    if not isinstance(error, ClientError) or (
        s3_versions.status_of(error) != s3_versions.MALFORMED and not s3_versions.is_unknown(error)
    ):
        return ""
    return _("The sentence is the server's own; docs/configuration.md says which settings compatible servers need.")


def _without_keys(message: str) -> str:
    """Return the first line, without what looks like a key or is ours."""
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
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """Write beside the target, flush to the disk, rename, flush the folder."""
        target = self._path / name
        partial = _partial(target)
        with self._translated(name, Use.WRITE):
            target.parent.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)
            partial.unlink(missing_ok=True)
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
        file = os.fdopen(descriptor, "wb")
        try:
            with self._translated(name, Use.WRITE):
                yield file
                file.flush()
                os.fsync(file.fileno())
                file.close()
                partial.replace(target)
                flush_folder(target.parent)
            self.completed.add(name)
        except BaseException:
            # A full disk takes no more at the close either, which must not hide what happened.
            with suppress(OSError):
                file.close()
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise

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
        """Try it, in the nearest folder that exists: those below are made when they are needed."""
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
                _("%(url)s is a folder, in which nothing can be locked.") % {"url": self.url},
                hint=_("Name a bucket with object lock, or set AUDIT_ANCHOR_LOCK_DAYS to 0."),
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
        self._client = s3_client()

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """Upload in parts; the object appears when the last one is there, and not at all where the block fails."""
        with self._translated(name, Use.WRITE), ExitStack() as stack:
            url = f"{S3_SCHEME}{self._bucket}/{self._prefix}{name}"
            options = {"client": self._client, "min_part_size": PART_BYTES}
            with _cut_answers_told():
                file = _open_object(url, "wb", compression="disable", transport_params=options)
            yield stack.enter_context(file)
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
        """Ask for the bucket. Only S3's "404" counts: an account may be allowed to write and not to ask."""
        with self._translated(name, Use.WRITE), _cut_answers_told():
            try:
                self._client.head_bucket(Bucket=self._bucket)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") == "404":
                    raise MissingFromPlace(
                        _("There is no bucket %(bucket)s.") % {"bucket": f"{S3_SCHEME}{self._bucket}"},
                        hint=_("Make it first, or name another place."),
                    ) from error

    def size(self, name: str) -> int | None:
        try:
            with self._translated(name, Use.READ), _cut_answers_told():
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
        """In COMPLIANCE mode, which not even the account's root user can shorten; the bucket must have object lock."""
        lock = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until} if until else {}
        with self._translated(name, Use.WRITE):
            # A lock is taken with a checksum alone.
            checked = {"ContentMD5": s3_versions.content_md5(content)}
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=content, **checked, **lock)
        self.completed.add(name)

    def versions(self, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        with self._translated(prefix, Use.READ):
            for found in s3_versions.versions(self._client, self._bucket, self._prefix + prefix):
                if not found.is_mark:
                    version = {"Bucket": self._bucket, "Key": found.key, "VersionId": found.version}
                    yield found.key.removeprefix(self._prefix), self._client.get_object(**version)["Body"].read()

    def remove(self, name: str) -> None:
        key = self._prefix + name
        with self._translated(name, Use.REMOVE):
            self._client.delete_object(Bucket=self._bucket, Key=key)
            for upload in s3_versions.uploads(self._client, self._bucket, key):
                if upload["Key"] == key:
                    self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload["UploadId"])

    def erase(self, name: str) -> None:
        with self._translated(name, Use.REMOVE):
            s3_versions.erase(self._client, self._bucket, self._versions(name))
        self.remove(name)
        with self._translated(name, Use.REMOVE):
            # Where the bucket keeps versions, that left a mark.
            s3_versions.erase(self._client, self._bucket, self._versions(name))

    def holds(self, name: str) -> bool:
        try:
            with self._translated(name, Use.READ):
                return any(True for _version in self._versions(name))
        except MissingFromPlace:
            return False

    def _versions(self, name: str) -> Iterator[s3_versions.ObjectVersion]:
        key = self._prefix + name
        return (found for found in s3_versions.versions(self._client, self._bucket, key) if found.key == key)


def _open_object(url: str, mode: str, **options: Any) -> Any:
    """Open an object as a stream; options are those of smart_open."""
    import smart_open.s3  # slow to load (it brings Google's libraries), and not needed for folders

    # boto3 tries again already; smart_open's own tries take a minute and shout.
    smart_open.s3.RETRY.exceptions = []
    smart_open.s3.RETRY.client_error_codes = []
    return smart_open.open(url, mode, **options)


@contextmanager
def _cut_answers_told() -> Iterator[None]:
    """boto3 takes an answer that was cut off among its headers for a whole one, in which something is missing."""
    try:
        yield
    except KeyError as error:
        raise OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)) from error


def place_at(url: str) -> Place:
    """Return the place that a folder's path or s3://bucket/prefix names; nothing is asked or made yet."""
    _require_no_stream(url)
    if url.startswith(S3_SCHEME):
        bucket, _slash, prefix = url.removeprefix(S3_SCHEME).partition("/")
        if not bucket:
            raise PlaceError(
                _("%(url)s names no bucket.") % {"url": url}, hint=_("Write s3://bucket/prefix."), code="place_invalid"
            )
        return Bucket(bucket, prefix.strip("/"))
    return Folder(Path(url).expanduser().absolute())


def source_file(url: str) -> tuple[Place, str]:
    """Return (place, name) of a file that is read: "-" is standard input, as it is elsewhere."""
    return split_file("/dev/stdin" if url == STANDARD else url)


def split_file(url: str) -> tuple[Place, str]:
    """Return (place, name) of a single file."""
    _require_no_stream(url)
    folder, _slash, name = url.rpartition("/")
    if not name or (url.startswith(S3_SCHEME) and folder in ("s3:/", "s3:")):
        raise PlaceError(_("%(url)s names no file.") % {"url": url}, code="place_invalid")
    return place_at(folder or ("/" if url.startswith("/") else ".")), name


def _require_no_stream(url: str) -> None:
    """Refuse to make a file that is called "-"."""
    if url == STANDARD:
        raise PlaceError(
            _("“-” is standard output, which takes one file; here several are written."),
            hint=_("Name a folder or s3://bucket/…; a folder that is called “-” is “./-”."),
            code="standard_output_refused",
        )


def s3_client() -> Any:
    """Return a client for the S3 that the environment names (AWS_*)."""
    import boto3  # slow to load, and not needed for folders
    from botocore.config import Config

    return boto3.client(
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
    """Make renames in the folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _partial(target: Path) -> Path:
    return target.with_name(f".{target.name}.partial")
