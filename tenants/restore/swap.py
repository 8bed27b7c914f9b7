"""Put another database in the place of a tenant's: closed to everybody for as long as it takes to rename two.

1. the tenant is closed in the control database, so that nobody opens a connection; 2. its role is kept out and its
sessions end; 3. both audit logs' ends are tied together in the new one; 4. the databases change names, in one
transaction of the server's; 5. the tenant is opened again, and whoever held a connection must open a new one.

Which of the two states a server is in shows in the names of its databases, so a swap that was cut off can be ended.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict

from django.db import transaction
from django.db.models import Case, F, Value, When
from django.db.models.functions import Now
from django.db.utils import Error

from audit.log.chain import ChainHead, chain_head
from audit.log.entries import record
from config.base.databases import CONTROL
from tenants.models import Restore, RestorePhase, Tenant, TenantStatus
from tenants.routing.owner_connection import owner_connection
from tenants.servers.session import ServerSession, parse_location


def close(tenant: Tenant, row: Restore) -> None:
    """Close the tenant to everybody, durably."""
    with transaction.atomic(using=CONTROL):
        Restore.objects.using(CONTROL).filter(pk=row.pk).update(phase=RestorePhase.SWAPPING)
        Tenant.objects.using(CONTROL).filter(pk=tenant.pk).update(
            status=TenantStatus.RESTORING, connection_version=F("connection_version") + 1
        )
    row.phase = RestorePhase.SWAPPING


def exchange(server_session: ServerSession, tenant: Tenant, row: Restore, *, work: str) -> dict[str, object]:
    """Swap the databases of a closed tenant; return both chains' heads, as the new one's own audit log has them.

    Where the live database is gone, the new one takes its place and nothing is kept.
    """
    location = parse_location(tenant.database_url)
    server_session.ensure_login(location.role, location.password)
    exists = server_session.database_exists(row.live)
    replaced = None
    if exists:
        server_session.close_to(row.live, location.role)
        # One that cannot be entered any more is kept as it is.
        with suppress(Error), owner_connection(server_session.server, row.live, work) as connection:
            replaced = chain_head(connection)
    heads = _bind(server_session, tenant, row, replaced, work)
    server_session.swap(row.live, row.scratch, row.kept if exists else None, location.role)
    return heads


def is_swapped(server_session: ServerSession, row: Restore) -> bool:
    """Tell whether the databases have changed names: then nothing is called like the replacement any more."""
    return not server_session.database_exists(row.scratch)


def reopen(server_session: ServerSession, tenant: Tenant) -> None:
    """Let the tenant's role into its old database again."""
    location = parse_location(tenant.database_url)
    server_session.open_to(location.database, location.role)


def back_to_work(tenant: Tenant, **changes: object) -> None:
    """Give a closed tenant the status back that it had; call it in the transaction that says why."""
    status = Case(When(is_active=True, then=Value(TenantStatus.ACTIVE)), default=Value(TenantStatus.SUSPENDED))
    Tenant.objects.using(CONTROL).filter(pk=tenant.pk, status=TenantStatus.RESTORING).update(
        status=status,
        connection_version=F("connection_version") + 1,
        work_seen_at=Now(),
        **changes,
    )


def _bind(
    server_session: ServerSession, tenant: Tenant, row: Restore, replaced: ChainHead | None, work: str
) -> dict[str, object]:
    """Write into the new database where the replaced one's chain ended, so that a rollback differs from a restore."""
    with (
        owner_connection(server_session.server, row.scratch, work) as connection,
        transaction.atomic(using=connection.alias),
    ):
        restored = chain_head(connection)
        heads: dict[str, object] = {
            "replaced": asdict(replaced) if replaced else None,
            "restored": asdict(restored) if restored else None,
        }
        record(
            using=connection.alias,
            action="tenant.restore",
            resource_type="tenant",
            resource_id=tenant.id,
            details={"operation": str(row.pk), "source": row.source, **heads},
        )
    return heads
