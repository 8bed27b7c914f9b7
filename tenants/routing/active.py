"""Keep track of the active tenant, in one context variable.

`tenants.routing.context` sets it; everything else only reads it. A context variable follows async tasks and
`sync_to_async`. A new thread starts without one, so a thread that has not chosen a tenant gets `NoActiveTenant` instead
of another tenant's data.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar, Token
from dataclasses import dataclass, field

from tenants.errors import NoActiveTenant, WrongTenantActive
from tenants.naming import TENANT_PREFIX
from tenants.types import ActiveTenant

# Prefix of the alias of a database opened as its owner or as a guest (`tenants.routing.owner_connection`).
OWNER_PREFIX = "owner:"


@dataclass(frozen=True)
class Frame:
    """A `tenant_context` that has been entered."""

    tenant: ActiveTenant
    parent: Frame | None
    thread: int = field(default_factory=threading.get_ident)

    def is_entered_again(self) -> bool:
        """Return whether an outer context of the same thread still uses the same tenant's connection."""
        frame = self.parent
        while frame is not None:
            if frame.tenant.alias == self.tenant.alias and frame.thread == self.thread:
                return True
            frame = frame.parent
        return False


_frame: ContextVar[Frame | None] = ContextVar("active_tenant", default=None)


def push(tenant: ActiveTenant) -> tuple[Frame, Token[Frame | None]]:
    frame = Frame(tenant, _frame.get())
    return frame, _frame.set(frame)


def pop(token: Token[Frame | None]) -> None:
    _frame.reset(token)


def current_tenant_or_none() -> ActiveTenant | None:
    frame = _frame.get()
    return frame.tenant if frame else None


def current_tenant(subject: str = "") -> ActiveTenant:
    """Return the active tenant; if there is none, raise `NoActiveTenant`, which names `subject` if it is given."""
    frame = _frame.get()
    if frame is None:
        raise NoActiveTenant(subject)
    return frame.tenant


def require(alias: str) -> None:
    """Raise `WrongTenantActive` or `NoActiveTenant` unless the active tenant is the one behind `alias`."""
    tenant = current_tenant(alias)
    if tenant.alias != alias:
        raise WrongTenantActive(alias, tenant.alias)


def is_tenant_database(alias: str) -> bool:
    """Return whether `alias` holds customers' tables: a tenant's database, or one opened as its owner or as a guest."""
    return alias.startswith((TENANT_PREFIX, OWNER_PREFIX))
