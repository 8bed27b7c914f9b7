"""Erasures in tests: what other tests must not meet is removed, and the ledger changed as no product may."""

from __future__ import annotations

from typing import LiteralString

from tenants.models import Erasure, Tenant
from tests.audit.audited import as_superuser


def forget_erasure(row: Erasure) -> None:
    """Remove the tombstone; ledger and archived log stay, since the control log says that there are any."""
    Tenant.objects.filter(pk=row.tenant_id).delete()


def forge(row: Erasure, change: LiteralString, *values: object) -> None:
    """Change a row of the ledger past its guards ("phase = %s"), as its server's administrator can."""
    with as_superuser() as connection:
        connection.execute("ALTER TABLE erasures DISABLE TRIGGER freeze_erasure")
        connection.execute("UPDATE erasures SET " + change + " WHERE operation_id = %s", [*values, row.pk])
        connection.execute("ALTER TABLE erasures ENABLE ALWAYS TRIGGER freeze_erasure")
