"""How tenants are: what the control database says, and whether their databases answer."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connections

from tenants.context import tenant_context
from tenants.errors import TenantError
from tenants.models import Tenant, TenantStatus
from tenants.selectors import operations_unfinished, tenant_get, tenants_existing

CONNECTABLE = (TenantStatus.ACTIVE, TenantStatus.SUSPENDED)


@dataclass(frozen=True)
class TenantHealth:
    id: str
    status: str
    server: str | None
    # Whether its database answered, as the tenant's own role, and said that it is the tenant's.
    reachable: bool
    size_bytes: int | None
    # The kind of an operation that was begun and is not over.
    unfinished_operation: str | None
    # One sentence where something is wrong.
    problem: str | None


def tenant_statuses(*, tenant_id: str | None = None) -> list[TenantHealth]:
    """Connect to each tenant (or the one) and report; raises `UnknownTenant`, and never for a tenant that is ill."""
    tenants = [tenant_get(tenant_id)] if tenant_id else list(tenants_existing())
    unfinished = {operation.tenant_id: operation.kind for operation in operations_unfinished()}
    return [_health(tenant, unfinished.get(tenant.id)) for tenant in tenants]


def _health(tenant: Tenant, unfinished: str | None) -> TenantHealth:
    size_bytes, problem = None, None
    if tenant.status in CONNECTABLE:
        try:
            size_bytes = _size_bytes(tenant)
        except TenantError as error:
            problem = str(error)
    return TenantHealth(
        id=tenant.id,
        status=tenant.status,
        server=tenant.server_id,
        reachable=size_bytes is not None,
        size_bytes=size_bytes,
        unfinished_operation=unfinished,
        problem=problem,
    )


def _size_bytes(tenant: Tenant) -> int:
    with tenant_context(tenant, statuses=CONNECTABLE) as alias, connections[alias].cursor() as cursor:
        cursor.execute("SELECT pg_database_size(current_database())")
        size: int = cursor.fetchone()[0]
        return size
