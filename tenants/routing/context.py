"""Work for one tenant: `with tenant_context(tenant) as alias:` (or `async with`)."""

from __future__ import annotations

from collections.abc import Container
from contextvars import Token
from types import TracebackType

from asgiref.sync import sync_to_async

from tenants.errors import TenantLocked, TenantNotActive, reason_of
from tenants.models import Tenant, TenantStatus
from tenants.routing import active, pool
from tenants.routing.active import Frame, current_tenant, current_tenant_or_none
from tenants.selectors import tenant_get
from tenants.servers.lock_holders import is_lock_timeout, lock_reason
from tenants.servers.session import parse_location
from tenants.types import ActiveTenant

__all__ = ["current_alias", "current_tenant", "current_tenant_or_none", "tenant_context"]


def current_alias() -> str:
    """Return the active tenant's database alias; raise `NoActiveTenant` if there is none."""
    return current_tenant().alias


class tenant_context:  # noqa: N801  (used like a function, as Django's own context managers are)
    """Make a tenant the active one inside the block, and yield its database alias.

    The tenant's row is read again on entry, so changes by other processes (suspend, move, restore, erase) take effect
    at the next entry. Raises `UnknownTenant`, `InvalidDatabaseURL`, or `TenantNotActive` if the status is not in
    `statuses`, and `TenantLocked` if the block times out waiting for a lock in the tenant's database. The first
    query in the block connects, and may raise `TenantUnreachable`, `TenantIdentityMismatch` or
    `TenantConnectionsExhausted`. May be reused and nested, with the same tenant or another. A new thread starts without
    a tenant: enter the context inside it.
    """

    def __init__(self, tenant: Tenant | str, *, statuses: Container[str] = (TenantStatus.ACTIVE,)) -> None:
        self._tenant_id = tenant if isinstance(tenant, str) else tenant.id
        self._statuses = statuses
        self._entered: list[tuple[Frame, Token[Frame | None]]] = []

    def __enter__(self) -> str:
        return self._push(self._open())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        frame = self._pop()
        if not frame.is_entered_again():
            pool.return_connection(frame.tenant.alias)
        _raise_if_locked(frame.tenant, error)

    async def __aenter__(self) -> str:
        return self._push(await sync_to_async(self._open)())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        frame = self._pop()
        if not frame.is_entered_again():
            await sync_to_async(pool.return_connection)(frame.tenant.alias)
        if is_lock_timeout(error):
            await sync_to_async(_raise_if_locked)(frame.tenant, error)

    def _open(self) -> ActiveTenant:
        tenant = tenant_get(self._tenant_id)
        # Plain SQL may have cleared only `is_active`, as the specification allows.
        suspended = tenant.status == TenantStatus.ACTIVE and not tenant.is_active
        status = TenantStatus.SUSPENDED if suspended else tenant.status
        if status not in self._statuses:
            raise TenantNotActive(tenant.id, status)
        pool.use_tenant(tenant)
        return ActiveTenant(
            id=tenant.id,
            alias=tenant.alias,
            identity=tenant.identity,
            monthly_budget_usd=tenant.monthly_budget_usd,
            run_budget_usd=tenant.run_budget_usd,
        )

    def _push(self, tenant: ActiveTenant) -> str:
        self._entered.append(active.push(tenant))
        return tenant.alias

    def _pop(self) -> Frame:
        frame, token = self._entered.pop()
        active.pop(token)
        return frame


def _raise_if_locked(active_tenant: ActiveTenant, error: BaseException | None) -> None:
    """Raise `TenantLocked`, with the lock holder if known, if the error is a lock timeout in the tenant's database."""
    if not is_lock_timeout(error) or getattr(error, "alias", None) != active_tenant.alias:
        return
    tenant = tenant_get(active_tenant.id)
    database = parse_location(tenant.database_url).database
    reason = lock_reason(tenant.server, database) if tenant.server else reason_of(error or Exception())
    raise TenantLocked(tenant.id, reason) from error
