"""Erase a tenant permanently (`tenants.erasure.steps`)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db.utils import Error
from django.utils.translation import gettext as _

from audit.log.chain_check import chain_first_bad, chain_head, chain_last
from config.base.databases import CONTROL
from tenants.app_hooks import contents
from tenants.erasure import steps
from tenants.erasure.inventory import (
    HeldBackup,
    HeldDatabase,
    HeldFile,
    HeldStorage,
    backups_held,
    databases_held,
    files_held,
    rows_held,
    storage_held,
)
from tenants.erasure.steps import AUDIT_LOSS, LOST_BACKUPS, work_of
from tenants.erasure_ledger import erasure_get
from tenants.errors import DeletionRefused, TenantNotActive, reason_of
from tenants.files import tenant_storage
from tenants.fleet.batch import fleet_shared
from tenants.models import (
    Backup,
    BackupKind,
    BackupStatus,
    DatabaseServer,
    Erasure,
    Tenant,
    TenantStatus,
    database_prefix,
)
from tenants.operations import copies_barred, tenant_lock
from tenants.routing.owner_connection import owner_connection
from tenants.schema.inspection import database_of
from tenants.selectors import require_finished, tenant_get
from tenants.servers.session import ServerSession
from tenants.types import OnProgress, ignore_progress

DELETABLE = (TenantStatus.ACTIVE, TenantStatus.SUSPENDED)


@dataclass(frozen=True)
class Loss:
    """What a deletion will remove."""

    tenant_id: str
    name: str
    databases: list[HeldDatabase]
    # {table: rows}; {} if the database is gone or cannot be read.
    rows: dict[str, int]
    storage: HeldStorage
    backups: list[HeldBackup]
    # Other files and streams that may contain its data; only some of the files are removed.
    files: list[HeldFile]
    # Start time of the newest completed backup; None if there is none.
    last_backup_at: datetime | None
    # Ids of the runs that workers are processing.
    at_work: list[str]


def tenant_loss(*, tenant_id: str) -> Loss:
    """Return what deleting the tenant would remove.

    Raises `UnknownTenant`, `TenantNotActive`, `TenantWithoutServer`, `ServerError` or `StorageError`.
    """
    tenant = tenant_get(tenant_id)
    server = _require_deletable(tenant)
    database = database_of(tenant)
    with ServerSession(server, database_prefix(), work_of(tenant)) as server_session:
        completed = Backup.objects.using(CONTROL).filter(
            tenant_id=tenant.id, kind=BackupKind.BACKUP, status=BackupStatus.COMPLETED
        )
        return Loss(
            tenant_id=tenant.id,
            name=tenant.name,
            databases=databases_held(server_session, tenant.id, database),
            rows=rows_held(server_session, database),
            storage=storage_held(tenant.id),
            backups=backups_held(tenant.id),
            files=files_held(tenant.id, tenant.identity),
            last_backup_at=completed.order_by("-started_at").values_list("started_at", flat=True).first(),
            at_work=_at_work(server_session, database, tenant),
        )


def tenant_delete_check(*, tenant_id: str, accept_audit_loss: bool = False) -> None:
    """Run the checks that `tenant_delete` runs before it begins a deletion, and raise what they raise.

    Locks and approvals are not checked.
    """
    require_finished(tenant_id)
    tenant = tenant_get(tenant_id)
    server = _require_deletable(tenant)
    with ServerSession(server, database_prefix(), work_of(tenant)) as server_session:
        _require_possible(server_session, tenant, accept_audit_loss)


def tenant_delete(
    *,
    tenant_id: str,
    accept_audit_loss: bool = False,
    accept_lost_backups: bool = False,
    on_progress: OnProgress = ignore_progress,
) -> Erasure:
    """Erase the tenant and return the record with its certificate. If it is already erased, only return the record.

    Continues an interrupted deletion. A broken or missing audit log stops the deletion unless `accept_audit_loss` is
    set, and so do backups that cannot be removed unless `accept_lost_backups` is set; the certificate records what was
    accepted.

    Raises `UnknownTenant`, `TenantNotActive`, `TenantWithoutServer`, `TenantBusy`, `FleetBusy`, `TenantUnfinished`,
    `FleetUnfinished`, `ServerError`, `ApprovalRequired`, `ApprovalRefused` or `DeletionRefused` before it erases
    anything; `DeletionUnfinished` if a step failed, after which the tenant stays closed.
    """
    accepts = [AUDIT_LOSS] * accept_audit_loss + [LOST_BACKUPS] * accept_lost_backups
    tenant_get(tenant_id)
    with tenant_lock(tenant_id), copies_barred(tenant_id):
        tenant = tenant_get(tenant_id)
        if tenant.status == TenantStatus.DELETED:
            return erasure_get(tenant_id)
        if tenant.status == TenantStatus.DELETING:
            row = erasure_get(tenant_id)
            steps.accept(row, accepts)
        else:
            row = _begin(tenant, accepts)
        # The tenant is closed now, whatever fails.
        with (
            steps.failures_as_unfinished(tenant.id),
            ServerSession(tenant.require_server(), database_prefix(), work_of(tenant)) as server_session,
        ):
            server_session.end_predecessors()
            steps.carry_on(server_session, tenant, row, on_progress)
    return row


def _begin(tenant: Tenant, accepts: list[str]) -> Erasure:
    """Run the checks, record the deletion, close the tenant, and return the record.

    No batch runs meanwhile, and later batches skip the tenant.
    """
    with fleet_shared(wait_s=settings.OPERATION_WAIT_S):
        require_finished(tenant.id)
        server = _require_deletable(tenant)
        with ServerSession(server, database_prefix(), work_of(tenant)) as server_session:
            _require_possible(server_session, tenant, AUDIT_LOSS in accepts)
            # Only members of the owner role can drop its databases, and a new administrator is not a member yet.
            server_session.prepare()
        return steps.begin(tenant, accepts)


def _require_possible(server_session: ServerSession, tenant: Tenant, accept_audit_loss: bool) -> None:
    server_session.require_needed()
    if not accept_audit_loss:
        _require_whole_log(server_session, tenant)
    server_session.require_endable(database_of(tenant))
    refusal = tenant_storage.refusal_of(tenant.id)
    if refusal:
        raise DeletionRefused(
            tenant.id,
            _("The files in its storage cannot be listed: %(reason)s.") % {"reason": refusal},
            hint=_("Check the storage's settings and permissions; docs/configuration.md lists both."),
            code="storage_not_listable",
        )


def _require_deletable(tenant: Tenant) -> DatabaseServer:
    if tenant.status not in DELETABLE:
        raise TenantNotActive(tenant.id, tenant.status)
    return tenant.require_server()


def _require_whole_log(server_session: ServerSession, tenant: Tenant) -> None:
    """Refuse a broken or missing audit log up front, since it would stop the deletion later on."""
    database, identity = database_of(tenant), tenant.chain_identity or tenant.identity
    if not server_session.database_exists(database):
        raise _without_log(tenant, _("Its database is gone, and its audit log with it."))
    try:
        with owner_connection(server_session.server, database, work_of(tenant)) as connection:
            bad = chain_first_bad(connection, identity)
            last = chain_last(connection, identity)
            if bad is None and chain_head(connection) != last:
                bad = last.sequence + 1
    except Error as error:
        reason = _("Its audit log cannot be read: %(reason)s.") % {"reason": reason_of(error)}
        raise _without_log(tenant, reason) from error
    if bad is not None:
        raise _without_log(tenant, steps.broken_log(bad))


def _without_log(tenant: Tenant, reason: str) -> DeletionRefused:
    return DeletionRefused(
        tenant.id,
        reason,
        hint=steps.HINTS[AUDIT_LOSS](),
        page_hint=_(
            "To delete the tenant anyway, request the deletion again and switch on “Continue even if the tenant's audit"
            " log is broken or missing”; the certificate will say so."
        ),
    )


def _at_work(server_session: ServerSession, database: str, tenant: Tenant) -> list[str]:
    if not server_session.database_exists(database):
        return []
    try:
        with owner_connection(server_session.server, database, work_of(tenant)) as connection:
            return contents().at_work(connection.alias)
    except Error:
        return []
