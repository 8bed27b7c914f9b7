"""A tenant's files as one tar archive, written and read as a stream."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import IO

from django.utils.translation import gettext as _

from tenants import objects
from tenants.errors import TenantError
from tenants.objects import prefix_of


class BadArchive(TenantError):
    """An archive of files is damaged, or holds what it must not."""


def archive_write(tenant_id: str, target: IO[bytes]) -> int:
    """Write the tenant's files, named as beneath its prefix; return how many. Raises `StorageError`."""
    count = 0
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for stored in objects.objects_of(tenant_id):
            content = objects.read(stored.path)
            if content is None:
                continue  # a run was just redone, or its file removed by hand; the rows' digests will tell
            member = tarfile.TarInfo(stored.path.removeprefix(prefix_of(tenant_id)))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
            count += 1
    return count


def archive_read(source: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield (name beneath the tenant's prefix, content) of each file; raise `BadArchive`."""
    try:
        with tarfile.open(fileobj=source, mode="r|") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                if content is None or not is_safe(member.name):
                    raise BadArchive(
                        _("The archive holds %(name)r, which is no file of a tenant's.") % {"name": member.name}
                    )
                yield member.name, content.read()
    except (tarfile.TarError, EOFError, UnicodeDecodeError, ValueError) as error:
        raise BadArchive(
            _("The archive of files is damaged: %(reason)s.") % {"reason": type(error).__name__}
        ) from error


def is_safe(name: str) -> bool:
    """Tell whether a name stays beneath the prefix that is put before it."""
    parts = name.split("/")
    return bool(name) and "\\" not in name and "\0" not in name and not any(part in ("", ".", "..") for part in parts)
