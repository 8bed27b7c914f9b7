"""Where the backups and exports that staff request are written. Settings name the places; the admin takes no paths."""

from __future__ import annotations

import secrets

from django.conf import settings
from django.utils.timezone import now

from tenants.files.age_encryption import SUFFIX, recipient_for
from tenants.files.locations import place_at


def backup_place() -> str:
    return str(settings.BACKUP_OUTPUT)


def export_place() -> str:
    return str(settings.EXPORT_OUTPUT)


def export_file(tenant_id: str) -> str:
    """Return the path or URL of a new file in the place for exports."""
    sealed = SUFFIX if recipient_for(None) else ""
    name = f"{tenant_id}-{now():%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}.tar{sealed}"
    return place_at(export_place()).path(name)
