"""Suspend a tenant (nothing of it can be reached or run) and resume it."""

from django.db import transaction
from django.db.models import F

from audit.log.entries import record
from config.base.databases import CONTROL
from tenants.errors import TenantNotActive
from tenants.models import Tenant, TenantStatus
from tenants.operations import tenant_lock
from tenants.selectors import require_finished, tenant_get


def tenant_suspend(*, tenant_id: str) -> Tenant:
    """Close an active tenant to everybody; its runs wait where they are. Raises `TenantNotActive` if it is not."""
    return _move(tenant_id, TenantStatus.ACTIVE, TenantStatus.SUSPENDED, action="tenant.suspend")


def tenant_resume(*, tenant_id: str) -> Tenant:
    """Open a suspended tenant again. Raises `TenantNotActive` if it is in any other state."""
    return _move(tenant_id, TenantStatus.SUSPENDED, TenantStatus.ACTIVE, action="tenant.resume")


def _move(tenant_id: str, old: TenantStatus, new: TenantStatus, *, action: str) -> Tenant:
    tenant_get(tenant_id)
    with tenant_lock(tenant_id, action):
        require_finished(tenant_id)
        with transaction.atomic(using=CONTROL):
            # A conditional update: whoever changed the status in between wins, and we say what it is now.
            moved = (
                Tenant.objects.using(CONTROL)
                .filter(pk=tenant_id, status=old)
                .update(
                    status=new, is_active=new == TenantStatus.ACTIVE, connection_version=F("connection_version") + 1
                )
            )
            if not moved:
                raise TenantNotActive(tenant_id, tenant_get(tenant_id).status)
            record(using=CONTROL, action=action, resource_type="tenant", resource_id=tenant_id)
    return tenant_get(tenant_id)
