"""Set how many of a tenant's steps may run at a time, across all workers."""

from django.db import transaction

from audit.log.entries import record
from config.base.databases import CONTROL
from tenants.errors import InvalidStepLimit, SettingsChanged, TenantNotActive
from tenants.models import Tenant, TenantStatus
from tenants.selectors import tenant_get

# More than any installation runs; above a few thousand, the queues' order would be inexact (runs/turns/queues.lua).
MAX_STEPS = 5000
# Tenants whose steps will never run again.
ENDED = (TenantStatus.DELETING, TenantStatus.DELETED)


def tenant_limit_set(*, tenant_id: str, steps: int | None, expected: tuple[object] | None = None) -> Tenant:
    """Set the limit (None: the default, RUN_TENANT_CONCURRENCY), and return the tenant.

    Running steps are not interrupted, and workers apply the new limit after a few seconds. Raises
    `InvalidStepLimit`, `UnknownTenant`, `TenantNotActive` if the tenant is being or was deleted, or `SettingsChanged`
    if `expected` is given and the present limit is another.
    """
    if steps is not None and not 1 <= steps <= MAX_STEPS:
        raise InvalidStepLimit(tenant_id, steps, MAX_STEPS)
    tenant_get(tenant_id)
    with transaction.atomic(using=CONTROL):
        tenant = Tenant.objects.using(CONTROL).select_for_update().get(pk=tenant_id)
        if tenant.status in ENDED:
            raise TenantNotActive(tenant_id, tenant.status)
        if expected is not None and expected != (tenant.max_concurrent_steps,):
            raise SettingsChanged(tenant_id)
        before, tenant.max_concurrent_steps = tenant.max_concurrent_steps, steps
        tenant.save(using=CONTROL, update_fields=["max_concurrent_steps"])
        details: dict[str, object] = {"from": before, "to": steps}
        record(using=CONTROL, action="tenant.limit", resource_type="tenant", resource_id=tenant_id, details=details)
    return tenant
