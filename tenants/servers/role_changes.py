"""Find changes to tenants' roles in the servers' shared catalogs, which do not show passwords.

PostgreSQL lets a role change its own password, set defaults for its own sessions and prepare transactions, so anyone
with a tenant's password may have done so. `tenants.lifecycle.rotate` reverts such changes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from tenants.errors import ServerError
from tenants.models import DatabaseServer, Tenant, database_prefix
from tenants.servers.session import Login, ServerSession, parse_location, wanted_settings


def role_changes(tenants: Sequence[Tenant]) -> dict[str, list[str]]:
    """Return {tenant id: differences from the desired state}, with one query per server.

    Tenants without a server, with one that cannot be reached, or without their role are left out: other checks report
    these.
    """
    found: dict[str, list[str]] = {}
    for server, of_server in _by_server(tenants).items():
        roles = {tenant.id: parse_location(tenant.database_url).role for tenant in of_server}
        with suppress(ServerError), ServerSession(server, database_prefix(), "status") as server_session:
            logins = server_session.logins(list(roles.values()))
            found |= {tenant_id: differences_of(logins[role]) for tenant_id, role in roles.items() if role in logins}
    return found


def differences_of(login: Login) -> list[str]:
    """Return how a role differs from what `ensure_login` creates, as one sentence for each difference."""
    wanted = {f"{name}={value}" for name, value in wanted_settings().items()}
    changes = []
    if login.connections != settings.TENANT_ROLE_CONNECTIONS:
        limit = {"found": login.connections, "wanted": settings.TENANT_ROLE_CONNECTIONS}
        changes.append(
            _("The role has no connection limit; it should be %(wanted)d.") % limit
            if login.connections < 0
            else _("The role's connection limit is %(found)d, not %(wanted)d.") % limit
        )
    if login.expires:
        changes.append(_("The role's password has an expiry time."))
    for setting in sorted(wanted - set(login.settings)):
        changes.append(_("The role lacks the setting %(setting)s.") % {"setting": setting})
    for setting in sorted({*login.settings, *login.settings_in_databases} - wanted):
        changes.append(_("The role has an unexpected setting: %(setting)s.") % {"setting": setting[:80]})
    if login.prepared:
        changes.append(
            ngettext(
                "The role has %(count)d prepared transaction.",
                "The role has %(count)d prepared transactions.",
                login.prepared,
            )
            % {"count": login.prepared}
        )
    return changes


def _by_server(tenants: Sequence[Tenant]) -> dict[DatabaseServer, list[Tenant]]:
    by_server: dict[DatabaseServer, list[Tenant]] = defaultdict(list)
    for tenant in tenants:
        if tenant.server is not None:
            by_server[tenant.server].append(tenant)
    return by_server
