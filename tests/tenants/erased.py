"""Records of erasures that other tests must not meet, removed."""

from __future__ import annotations

from tenants.models import Erasure, Tenant, TenantOperation


def forget_erasure(row: Erasure) -> None:
    """Remove the record and the tombstone; the archived log stays, since the control log says that there is one."""
    Tenant.objects.filter(pk=row.tenant_id).delete()
    Erasure.objects.filter(pk=row.pk).delete()
    TenantOperation.objects.filter(pk=row.pk).delete()
