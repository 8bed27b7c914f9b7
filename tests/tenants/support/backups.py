"""Backups that tests restore."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tenants.backup.backup import tenant_backup
from tenants.models import Tenant


def back_up(tenant: Tenant, folder: Path | str, **options: Any) -> str:
    [outcome] = tenant_backup(tenant_id=tenant.id, output=str(folder), **options)
    assert outcome.backup is not None, outcome.problem
    return f"{outcome.backup.place}/{outcome.backup.name}"
