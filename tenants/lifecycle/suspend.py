"""Suspend a tenant, so that no one can use it and its runs wait, and resume it."""

from django.db import transaction
from django.db.models import F

from audit.log.entries import record
from config.base.databases import CONTROL
from tenants.errors import TenantNotActive
from tenants.models import Tenant, TenantStatus
from tenants.operations import tenant_lock
from tenants.selectors import require_finished, tenant_get


def tenant_suspend(*, tenant_id: str, reason: str = "") -> Tenant:
    """Suspend an active tenant and return it; its runs wait where they are. The audit log keeps the reason.

    Raises `UnknownTenant`, `TenantNotActive` if it is not active, `TenantBusy`, `TenantUnfinished` or
    `FleetUnfinished`.
    """
    return _move(tenant_id, TenantStatus.ACTIVE, TenantStatus.SUSPENDED, action="tenant.suspend", reason=reason)


def tenant_resume(*, tenant_id: str) -> Tenant:
    """Resume a suspended tenant and return it.

    Raises `UnknownTenant`, `TenantNotActive` if it is not suspended, `TenantBusy`, `TenantUnfinished` or
    `FleetUnfinished`.
    """
    return _move(tenant_id, TenantStatus.SUSPENDED, TenantStatus.ACTIVE, action="tenant.resume")


def _move(tenant_id: str, old: TenantStatus, new: TenantStatus, *, action: str, reason: str = "") -> Tenant:
    tenant_get(tenant_id)
    with tenant_lock(tenant_id):
        require_finished(tenant_id)
        with transaction.atomic(using=CONTROL):
            # A conditional update: if the status changed in between, we report what it is now.
            moved = (
                Tenant.objects.using(CONTROL)
                .filter(pk=tenant_id, status=old)
                .update(
                    status=new, is_active=new == TenantStatus.ACTIVE, connection_version=F("connection_version") + 1
                )
            )
            if not moved:
                raise TenantNotActive(tenant_id, tenant_get(tenant_id).status)
            record(
                using=CONTROL,
                action=action,
                resource_type="tenant",
                resource_id=tenant_id,
                details={"reason": reason} if reason else None,
            )
    return tenant_get(tenant_id)
