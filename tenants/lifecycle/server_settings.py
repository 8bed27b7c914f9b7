"""A database server's settings other than its address: placement of tenants, and where its WAL is archived."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import transaction

from audit.log.entries import record
from config.base.databases import CONTROL
from tenants.models import DatabaseServer


@dataclass(frozen=True)
class ServerSettings:
    # None for no limit.
    capacity: int | None
    is_default: bool
    is_active: bool
    # A folder or s3://bucket/prefix; "" if unknown.
    wal_archive: str


def server_settings_save(*, name: str, settings: ServerSettings) -> None:
    """Save all settings. If this becomes the default server, unmark the previous one and record that.

    The caller records the changes to this server, in the same transaction.
    """
    with transaction.atomic(using=CONTROL):
        servers = DatabaseServer.objects.using(CONTROL)
        if settings.is_default:
            _take_mark_from_others(name)
        servers.filter(pk=name).update(
            capacity=settings.capacity,
            is_default=settings.is_default,
            is_active=settings.is_active,
            wal_archive=settings.wal_archive,
        )


def _take_mark_from_others(name: str) -> None:
    servers = DatabaseServer.objects.using(CONTROL)
    for other in servers.select_for_update().filter(is_default=True).exclude(pk=name):
        servers.filter(pk=other.pk).update(is_default=False)
        record(
            using=CONTROL,
            action="server.change",
            resource_type="database_server",
            resource_id=other.pk,
            details={"fields": ["is_default"], "default_is_now": name},
        )
