"""Replace a tenant's database with another; the tenant is closed while the two databases are renamed.

1. close the tenant in the control database, so that no one opens a connection; 2. lock its role out and end the role's
sessions; 3. record the heads of both audit chains in the new database; 4. rename both databases in one transaction
(`ServerSession.swap`); 5. open the tenant again; processes that had a connection must open a new one.

The names of the databases show whether the swap happened, so that an interrupted swap can be finished.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict

from django.db import transaction
from django.db.models import Case, F, Value, When
from django.db.models.functions import Now
from django.db.utils import Error

from audit.log.chain_check import ChainHead, chain_head
from audit.log.entries import record
from config.base.databases import CONTROL
from tenants.models import Restore, RestorePhase, Tenant, TenantStatus
from tenants.routing.owner_connection import owner_connection
from tenants.servers.session import ServerSession, parse_location


def close(tenant: Tenant, row: Restore) -> None:
    """Durably record that the swap begins, and close the tenant to all processes."""
    with transaction.atomic(using=CONTROL):
        Restore.objects.using(CONTROL).filter(pk=row.pk).update(phase=RestorePhase.SWAPPING)
        Tenant.objects.using(CONTROL).filter(pk=tenant.pk).update(
            status=TenantStatus.RESTORING, connection_version=F("connection_version") + 1
        )
    row.phase = RestorePhase.SWAPPING


def exchange(server_session: ServerSession, tenant: Tenant, row: Restore, *, work: str) -> dict[str, object]:
    """Swap a closed tenant's databases; return both audit chains' heads, as recorded in the new database's audit log.

    If the live database is gone, the new one takes its place, and no database is kept.
    """
    location = parse_location(tenant.database_url)
    server_session.ensure_login(location.role, location.password)
    exists = server_session.database_exists(row.live)
    replaced = None
    if exists:
        server_session.close_to(row.live, location.role)
        # A database that no longer accepts connections is kept, but its chain head is not read.
        with suppress(Error), owner_connection(server_session.server, row.live, work) as connection:
            replaced = chain_head(connection)
    heads = _bind(server_session, tenant, row, replaced, work)
    server_session.swap(row.live, row.scratch, row.kept if exists else None, location.role)
    return heads


def is_swapped(server_session: ServerSession, row: Restore) -> bool:
    """Return True once the rename is committed: no database has the scratch name any more."""
    return not server_session.database_exists(row.scratch)


def reopen(server_session: ServerSession, tenant: Tenant) -> None:
    """Allow the tenant's role to connect to its database again."""
    location = parse_location(tenant.database_url)
    server_session.open_to(location.database, location.role)


def back_to_work(tenant: Tenant, **changes: object) -> None:
    """Give a closed tenant its previous status again, and make the changes; do nothing if it is not closed.

    Call this in the transaction that records why.
    """
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
    """Record both chains' heads in the new database, so that a restore can be distinguished from an unauthorized
    rollback.
    """
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
