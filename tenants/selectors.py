"""Queries of the control database about tenants."""

from datetime import timedelta
from typing import LiteralString

from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from config.base.databases import CONTROL
from config.base.rows import fetch_one, object_of
from tenants.errors import FleetUnfinished, ServerError, TenantUnfinished, UnknownTenant
from tenants.models import (
    UNFINISHED,
    Backup,
    BackupStatus,
    DatabaseServer,
    MigrationBatch,
    OperationStatus,
    Tenant,
    TenantOperation,
    TenantStatus,
)

TENANT_COLUMNS = tuple(field.attname for field in Tenant._meta.concrete_fields)
TENANT: LiteralString = """
SELECT id, name, database_url, created_at, is_active, status, server_id, identity, chain_identity, connection_version,
       work_seen_at, max_concurrent_steps, monthly_budget_usd, run_budget_usd, schema_version, schema_drift,
       schema_fingerprint, schema_stamp, schema_checked_at
  FROM public.tenants WHERE id = %s
"""


def tenant_get(tenant_id: str) -> Tenant:
    """Return the tenant, whatever its status; raise `UnknownTenant` if there is none."""
    # This query runs on every entry into a tenant's context.
    values = fetch_one(CONTROL, TENANT, [tenant_id])
    if values is None:
        raise UnknownTenant(tenant_id)
    return object_of(Tenant, CONTROL, TENANT_COLUMNS, values)


def tenants_existing() -> QuerySet[Tenant]:
    """Return every tenant except tombstones, ordered by id."""
    return Tenant.objects.using("default").exclude(status=TenantStatus.DELETED).select_related("server")


def tenants_active() -> QuerySet[Tenant]:
    return Tenant.objects.using("default").filter(status=TenantStatus.ACTIVE, is_active=True)


def operations_unfinished() -> QuerySet[TenantOperation]:
    """Return the operations that have neither completed nor been undone, oldest first."""
    return TenantOperation.objects.using("default").filter(status=OperationStatus.RUNNING).order_by("started_at")


def rotated_lately(tenant_id: str) -> bool:
    """Return whether the password of the tenant's role is being changed, or has just been changed."""
    return (
        TenantOperation.objects.using("default")
        .filter(tenant_id=tenant_id, kind="rotate")
        .filter(Q(status=OperationStatus.RUNNING) | Q(finished_at__gte=Now() - timedelta(seconds=5)))
        .exists()
    )


def require_finished(tenant_id: str) -> None:
    """Raise `TenantUnfinished` or `FleetUnfinished` if an operation or a batch on the tenant has not finished."""
    operation = operations_unfinished().filter(tenant_id=tenant_id).first()
    if operation is not None:
        raise TenantUnfinished(tenant_id, operation.kind)
    batch = batches_unfinished().filter(tenants__tenant_id=tenant_id).first()
    if batch is not None:
        raise FleetUnfinished(batch.pk)


def batches_unfinished() -> QuerySet[MigrationBatch]:
    """Return the batches that have not finished; there is at most one."""
    return MigrationBatch.objects.using("default").filter(status__in=UNFINISHED)


def require_fleet_finished() -> None:
    """Raise `FleetUnfinished` if a batch has not finished."""
    batch = batches_unfinished().first()
    if batch is not None:
        raise FleetUnfinished(batch.pk)


def backups(*, tenant_id: str | None = None, every: bool = False) -> QuerySet[Backup]:
    """Return the catalogue's backups and exports, newest first, of one tenant or of all.

    Failed and removed ones are left out unless `every` is set; unfinished ones are included.
    """
    found = Backup.objects.using("default").order_by("-started_at")
    if tenant_id:
        found = found.filter(tenant_id=tenant_id)
    return found if every else found.exclude(status__in=(BackupStatus.FAILED, BackupStatus.REMOVED))


def server_get(name: str | None) -> DatabaseServer:
    """Return the named server, or the default one; raise `ServerError` if there is none."""
    servers = DatabaseServer.objects.using("default")
    server = servers.filter(pk=name).first() if name else servers.filter(is_default=True).first()
    if server is None and name:
        raise ServerError(
            _("There is no database server %(name)r.") % {"name": name},
            hint=_("Servers are listed in the admin under Database servers."),
            code="server_not_found",
        )
    if server is None:
        raise ServerError(
            _("No default database server is registered."),
            hint=_(
                "Mark a server as default in the admin; if no server is registered, set TENANT_SERVER_URL and run"
                " `seo-gen control setup`."
            ),
            code="server_default_missing",
        )
    return server


def server_for_new_tenant(name: str | None, *, can_choose: bool = True) -> DatabaseServer:
    """Return the named server, or the default one; raise `ServerError` if there is none or it takes no more tenants.

    `can_choose` says whether the caller lets people choose another server.
    """
    server = server_get(name)
    if not server.is_active:
        raise ServerError(
            _("Database server %(name)s does not accept new tenants.") % {"name": server.name}, code="server_closed"
        )
    if server.capacity is not None and tenants_existing().filter(server=server).count() >= server.capacity:
        raise ServerError(
            ngettext(
                "Database server %(name)s is full: its capacity is %(capacity)d tenant.",
                "Database server %(name)s is full: its capacity is %(capacity)d tenants.",
                server.capacity,
            )
            % {"name": server.name, "capacity": server.capacity},
            hint=_("Choose another server with --server, or raise the capacity of this one in the admin.")
            if can_choose
            else _("Raise its capacity in the admin."),
            page_hint=_("Choose another server, or raise the capacity of this one under “Database servers”.")
            if can_choose
            else _("Raise its capacity under “Database servers”."),
            code="server_full",
        )
    return server
