"""Locate a tenant's database, and bind it to the tenant."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import psycopg
from django.utils.translation import gettext as _

from audit.log.actor import Actor
from tenants.errors import ServerError, TenantIdentityMismatch, TenantUnreachable, reason_of
from tenants.models import DatabaseServer, Tenant, database_prefix
from tenants.naming import owner_role
from tenants.servers.session.base import connect


@dataclass(frozen=True)
class DatabaseLocation:
    """Where a database is and who connects to it. `url` holds the password: never put it in a message."""

    database: str
    role: str
    password: str
    url: str


def parse_location(url: str) -> DatabaseLocation:
    """Parse database, role and password from a tenant's URL."""
    parts = urlsplit(url)
    return DatabaseLocation(
        unquote(parts.path.lstrip("/")), unquote(parts.username or ""), unquote(parts.password or ""), url
    )


def location_on(server: DatabaseServer, role: str, password: str, database: str) -> DatabaseLocation:
    """Return where a role connects to: the server's URL with that role's name and password, and the database."""
    parts = urlsplit(server.admin_url)
    host = parts.netloc.rpartition("@")[2]
    netloc = f"{quote(role, safe='')}:{quote(password, safe='')}@{host}"
    url = urlunsplit(parts._replace(netloc=netloc, path=f"/{quote(database, safe='')}"))
    return DatabaseLocation(database, role, password, url)


def owner_url(server: DatabaseServer, database: str) -> str:
    """Return the URL by which the owner of the tenants' tables connects to a database of the server.

    Raises `ServerError` if the server's owner has no login yet.
    """
    if not server.owner_password:
        raise ServerError(
            _("The owner of the tenants' databases has no login on database server %(name)s.") % {"name": server.name},
            hint=_("Run `seo-gen control setup`, which gives it a login."),
            code="owner_login_missing",
        )
    return location_on(server, owner_role(database_prefix()), server.owner_password, database).url


def with_password(url: str, password: str) -> str:
    """Return the tenant's URL with another password; everything else is kept, even a host other than the server's."""
    parts = urlsplit(url)
    role, host = (parts.username or ""), parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{role}:{quote(password, safe='')}@{host}"))


def bind_identity(tenant: Tenant, actor: Actor) -> None:
    """Connect as the tenant and bind its database to it, including the audit chain.

    Calls the SQL function `bind_tenant`; repeating it changes nothing. Raises `TenantUnreachable`, or
    `TenantIdentityMismatch` if the database is another tenant's.
    """
    try:
        with connect(tenant.database_url, autocommit=False) as connection:
            values = (tenant.id, tenant.identity, actor.user_id, actor.operation_id)
            bound = connection.execute(
                "SELECT tenant_id, identity FROM public.bind_tenant(%s, %s, %s, %s)", values
            ).fetchone()
    except psycopg.Error as error:
        raise TenantUnreachable(tenant.id, reason_of(error)) from error
    if bound != (tenant.id, tenant.identity):
        raise TenantIdentityMismatch(tenant.id, bound[0] if bound else None)
