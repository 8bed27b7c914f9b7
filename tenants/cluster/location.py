"""Where a tenant's database is, and who it is bound to."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import psycopg

from audit.context import Actor
from tenants.cluster.session import CONNECT_TIMEOUT_S
from tenants.errors import TenantIdentityMismatch, TenantUnreachable, reason_of
from tenants.models import Tenant


@dataclass(frozen=True)
class DatabaseLocation:
    """Where a database is and who connects to it; `url` holds the password, so it never reaches a message."""

    database: str
    role: str
    password: str
    url: str


def parse_location(url: str) -> DatabaseLocation:
    """Read database, role and password back from a tenant's URL."""
    parts = urlsplit(url)
    return DatabaseLocation(
        unquote(parts.path.lstrip("/")), unquote(parts.username or ""), unquote(parts.password or ""), url
    )


def with_password(url: str, password: str) -> str:
    """Return the tenant's URL with another password; all else of it stays, such as an address of its own."""
    parts = urlsplit(url)
    role, host = (parts.username or ""), parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{role}:{quote(password, safe='')}@{host}"))


def bind_identity(tenant: Tenant, actor: Actor) -> None:
    """Connect as the tenant itself and have its database bound to it, audit chain included; see `bind_tenant`.

    Repeating it changes nothing. Raises `TenantUnreachable`, or `TenantIdentityMismatch` where it is another's.
    """
    try:
        with psycopg.connect(tenant.database_url, connect_timeout=CONNECT_TIMEOUT_S) as connection:
            values = (tenant.id, tenant.identity, actor.user_id, actor.operation_id)
            bound = connection.execute(
                "SELECT tenant_id, identity FROM public.bind_tenant(%s, %s, %s, %s)", values
            ).fetchone()
    except psycopg.Error as error:
        raise TenantUnreachable(tenant.id, reason_of(error)) from error
    if bound != (tenant.id, tenant.identity):
        raise TenantIdentityMismatch(tenant.id, f"it belongs to {bound[0] if bound else 'nobody'}")
