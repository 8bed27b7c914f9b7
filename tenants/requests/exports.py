"""Exports that staff requested: download them, and remove those that have expired."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.utils.timezone import now
from django.utils.translation import gettext as _

from audit.log.entries import record
from config.base.databases import CONTROL
from config.base.errors import SeoGenError
from tenants.errors import UnknownTenant
from tenants.files.locations import PlaceError, place_at
from tenants.files.streams import CHUNK_BYTES
from tenants.models import Backup, BackupKind, BackupStatus
from tenants.requests.places import export_place
from tenants.retention.prune import backup_remove

logger = logging.getLogger(__name__)


def export_read(backup: Backup, *, is_allowed: Callable[[], bool]) -> Iterator[bytes]:
    """Record the download, and return an iterator over the file's content.

    The last part is yielded only if the digest matches the catalogue's, so a damaged file never arrives whole.
    `is_allowed` is called for each part that is read. Raises `PlaceError`; so does the iterator, which also raises
    `UnknownTenant` if `is_allowed` returns False.
    """
    place = place_at(backup.place)
    expected = str((backup.manifest or {}).get("file", {}).get("sha256", ""))
    if place.size(backup.name) != backup.size_bytes:
        raise _damaged(place.path(backup.name))
    with transaction.atomic(using=CONTROL):
        record(
            using=CONTROL,
            action="backup.download",
            resource_type="tenant",
            resource_id=backup.tenant_id,
            details={"backup": str(backup.pk), "file": backup.name, "sha256": expected},
        )

    def content() -> Iterator[bytes]:
        digest, held = hashlib.sha256(), b""
        with place.open(backup.name) as file, place.reading(backup.name):
            yield b""
            while part := file.read(CHUNK_BYTES):
                if not is_allowed():
                    raise UnknownTenant(backup.tenant_id)
                digest.update(part)
                if held:
                    yield held
                held = part
        if digest.hexdigest() != expected:
            raise _damaged(place.path(backup.name))
        yield held

    parts = content()
    # It opens the file now, when a failure can still be shown. From here on, closing the generator closes the file.
    next(parts)
    return parts


def exports_expire() -> int:
    """Remove exports older than EXPORT_RETENTION_DAYS from the place for staff's exports; return their number.

    An export that cannot be removed is logged and left for the next time.
    """
    before = now() - timedelta(days=settings.EXPORT_RETENTION_DAYS)
    expired = Backup.objects.using(CONTROL).filter(
        kind=BackupKind.EXPORT,
        status=BackupStatus.COMPLETED,
        place=place_at(export_place()).url,
        started_at__lt=before,
    )
    removed = 0
    for backup in expired:
        try:
            backup_remove(backup)
            removed += 1
        except SeoGenError as error:
            extra = {"action": "export.expire", "tenant": backup.tenant_id, "error": error.code}
            logger.warning("expired export not removed", extra=extra)
    return removed


def _damaged(path: str) -> PlaceError:
    message = _("%(path)s is damaged or missing. Request a new export.") % {"path": path}
    return PlaceError(message, code="export_damaged")
