"""A tenant's files in one tar file, which is written and read as a stream.

A tar file may come from anyone. Only regular files are read from it, and each name only once; a size in a header is not
trusted until that much has been read. Only `extract_all` is for other tar files, such as those of base backups.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Self, cast

from django.conf import settings
from django.utils.translation import gettext as _

from tenants.errors import TenantError
from tenants.files import tenant_storage
from tenants.files.streams import Tally, copy_stream
from tenants.files.tenant_storage import is_safe, prefix_of

# Size limit for extension headers, which are read into memory. Our own names have at most 200 bytes.
MAX_HEADER_BYTES = 64 * 1024
EXTENSIONS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
# While its digest is computed, a file up to this size is held in memory; a larger one is held on disk.
IN_MEMORY_BYTES = 8 * 2**20

# A file's name relative to the tenant's prefix, and its content.
File = tuple[str, IO[bytes]]


class BadArchive(TenantError):
    """A tar file is damaged, or contains something that is not allowed."""

    code = "backup_archive_corrupt"


class _Member(tarfile.TarInfo):
    """A member with headers of limited size. Sparse files are rejected, since they can claim any size at no cost."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if member.type == tarfile.GNUTYPE_SPARSE or (member.type in EXTENSIONS and member.size > MAX_HEADER_BYTES):
            raise no_file(member.name)
        return member

    def _proc_gnusparse_00(self, *_arguments: object) -> None:
        raise no_file(self.name)

    _proc_gnusparse_01 = _proc_gnusparse_10 = _proc_gnusparse_00


def no_file(name: str) -> BadArchive:
    return BadArchive(_("The tar file contains %(name)r, which it must not contain.") % {"name": name})


def _damaged(reason: str) -> BadArchive:
    if reason:
        return BadArchive(_("The tar file is damaged: %(reason)s.") % {"reason": reason.rstrip(".")})
    return BadArchive(_("The tar file is damaged."))


def tar_open(source: IO[bytes]) -> tarfile.TarFile:
    """Open the tar file for reading as a stream.

    Raises `tarfile.TarError` if it is not a tar file, or `BadArchive` if its first header is not allowed.
    """
    return tarfile.open(fileobj=source, mode="r|", tarinfo=_Member)


def content_of(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    """Return the content of a regular file; raise `BadArchive` if it is a link, device, folder or sparse file."""
    content = archive.extractfile(member) if member.isreg() and not member.issparse() else None
    if content is None:
        raise no_file(member.name)
    return content


def tar_write(tenant_id: str, target: IO[bytes]) -> None:
    """Write the tenant's files as a tar file, with names relative to the tenant's prefix. Raises `StorageError`."""
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for stored in tenant_storage.objects_of(tenant_id):
            content = tenant_storage.read(stored.path)
            if content is None:
                continue  # a rerun or an operator just removed the file; checking the rows' digests will reveal that
            member = tarfile.TarInfo(stored.path.removeprefix(prefix_of(tenant_id)))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def tar_read(source: IO[bytes], *, at_most: int | None = None) -> Iterator[File]:
    """Yield (name relative to the tenant's prefix, content) of each file; read each content before the next file.

    Raises `BadArchive`, including when there are more than `at_most` files.
    """
    seen: set[str] = set()
    try:
        with tar_open(source) as archive:
            for member in archive:
                content = content_of(archive, member)
                if not is_safe(member.name):
                    raise no_file(member.name)
                if member.name in seen:
                    raise BadArchive(_("The tar file contains %(name)r twice.") % {"name": member.name})
                seen.add(member.name)
                if at_most is not None and len(seen) > at_most:
                    raise BadArchive(
                        _("The tar file contains more files than its manifest allows (%(limit)d).") % {"limit": at_most}
                    )
                yield member.name, content
    except (tarfile.TarError, EOFError, UnicodeDecodeError, ValueError) as error:
        raise _damaged(str(error) if isinstance(error, tarfile.TarError) else "") from error


def digests_of(files: Iterable[File]) -> Iterator[tuple[str, str]]:
    """Yield (name, sha256) of each file."""
    for name, content in files:
        tally = Tally(content)
        tally.drain()
        yield name, tally.sha256


def matching(files: Iterable[File], digests: Mapping[str, str | None]) -> Iterator[File]:
    """Yield the files whose content matches the digest given for their name; use each one before the next."""
    for name, content in files:
        wanted = digests.get(name)
        if wanted is None:
            continue
        folder = str(settings.HOME) if settings.HOME.is_dir() else None
        with SpooledTemporaryFile(max_size=IN_MEMORY_BYTES, dir=folder) as held:
            tally = Tally(content)
            copy_stream(cast(IO[bytes], tally), cast(IO[bytes], held))
            if tally.sha256 == wanted:
                held.seek(0)
                yield name, cast(IO[bytes], held)


def extract_all(tar: tarfile.TarFile, target: Path) -> None:
    """Extract everything into `target`; raise `tarfile.TarError` for a member that would end up outside it.

    Uses the standard library's "data" filter if this Python has it (3.11.4 and newer), which also refuses devices.
    Otherwise, any member that is neither a file nor a folder is refused too.
    """
    if hasattr(tarfile, "data_filter"):
        tar.extractall(target, filter="data")
        return
    root = target.resolve()
    for member in tar:
        if not (member.isreg() or member.isdir()):
            raise tarfile.ExtractError(f"{member.name!r} is neither a file nor a folder")
        if not (root / member.name).resolve().is_relative_to(root):
            raise tarfile.ExtractError(f"{member.name!r} would be extracted outside the folder")
        # The file belongs to the extracting user, as with the filter.
        member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
        member.mode &= 0o755
        tar.extract(member, target)
