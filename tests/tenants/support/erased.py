"""Erasures in tests: remove what other tests must not find, and change the ledger as no product code may."""

from __future__ import annotations

from typing import LiteralString

from tenants.models import Erasure, Tenant
from tests.audit.audited import as_superuser


def forget_erasure(row: Erasure) -> None:
    """Remove the tombstone. Ledger and archived log stay, since the control log says that they exist."""
    Tenant.objects.filter(pk=row.tenant_id).delete()


def forge(row: Erasure, change: LiteralString, *values: object) -> None:
    """Change a row of the ledger, bypassing its guards, as a superuser can; `change` is the part after SET ("phase =
    %s").
    """
    with as_superuser() as connection:
        connection.execute("ALTER TABLE erasures DISABLE TRIGGER freeze_erasure")
        connection.execute("UPDATE erasures SET " + change + " WHERE operation_id = %s", [*values, row.pk])
        connection.execute("ALTER TABLE erasures ENABLE ALWAYS TRIGGER freeze_erasure")
