"""Recover interrupted operations: finish each if possible, otherwise undo it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from django.db import OperationalError
from django.utils.translation import gettext as _

from config.base.databases import CONTROL
from config.base.errors import SeoGenError, joined
from tenants.backup.backup import backup_abandon
from tenants.erasure import steps
from tenants.errors import FleetBusy, ServerError, TenantBusy, failure_reason
from tenants.files.age_encryption import age_identity_require
from tenants.files.locations import place_at
from tenants.fleet.batch import batch_applied, batch_decide, batch_end, fleet_lock
from tenants.fleet.migrate import WORKERS
from tenants.fleet.two_phase import end_all, lost
from tenants.lifecycle import create, rotate
from tenants.models import (
    GID_PREFIX,
    UNFINISHED,
    Backup,
    BackupStatus,
    BatchKind,
    BatchStatus,
    DatabaseServer,
    MigrationBatch,
    OperationStatus,
    TenantOperation,
    batch_of,
    database_prefix,
)
from tenants.naming import work_name
from tenants.operations import tenant_lock
from tenants.pitr.base_backup import cluster_backups_recover
from tenants.pitr.recover_server import recoveries_remove
from tenants.restore import workflow
from tenants.restore.scratch_database import drop_throwaways
from tenants.schema.rehearsal import drop_scratch_databases
from tenants.selectors import batches_unfinished, operations_unfinished, tenant_get
from tenants.servers.session import ServerSession
from tenants.transfer import new_tenant
from tenants.types import OnProgress, ignore_progress


@dataclass(frozen=True)
class Recovery:
    """The outcome of one unfinished operation."""

    # "*" for a batch of all tenants, or of several.
    tenant_id: str
    kind: str
    # "finished", "undone", "busy" (its process is still running) or "failed" (still unfinished; see `reason`).
    outcome: str
    reason: str = ""


def tenant_recover(
    *, age_identity_file: str | None = None, on_progress: OnProgress = ignore_progress
) -> list[Recovery]:
    """Try to finish or undo every unfinished batch, backup and operation; return the outcome of each.

    Also cleans up base backups, recoveries, scratch databases and prepared transactions of killed processes, which have
    no outcome here. Safe to repeat, and to run alongside running operations. Batches come first, since their prepared
    transactions block everything else. `age_identity_file` decrypts the backup of a restore that still needs files from
    it. Raises `SealError` if that file cannot be used.
    """
    age_identity_require(age_identity_file)
    batches = [batch_recover(batch) for batch in batches_unfinished()]
    _end_strays()
    cluster_backups_recover()
    recoveries_remove()
    drop_throwaways()
    backups = [backup_recover(backup) for backup in Backup.objects.using(CONTROL).filter(status=BackupStatus.RUNNING)]
    return (
        batches
        + backups
        + [operation_recover(operation, on_progress, age_identity_file) for operation in operations_unfinished()]
    )


def batch_recover(batch: MigrationBatch) -> Recovery:
    """Commit the batch everywhere if that was decided, otherwise roll it back everywhere; return the outcome."""
    tenant_id = batch.tenant_id or "*"
    try:
        with fleet_lock():
            batch.refresh_from_db(using=CONTROL)
            if batch.status == BatchStatus.ROLLED_BACK:
                return Recovery(tenant_id, batch.kind, "undone", _("No tenant was changed."))
            if batch.status not in UNFINISHED:
                return Recovery(tenant_id, batch.kind, "finished")
            return _end_batch(batch, tenant_id)
    except FleetBusy:
        return Recovery(tenant_id, batch.kind, "busy")
    except (SeoGenError, OperationalError) as error:
        return Recovery(tenant_id, batch.kind, "failed", _reason(error))


def _end_batch(batch: MigrationBatch, tenant_id: str) -> Recovery:
    commit = not batch_decide(batch, BatchStatus.ROLLING_BACK)
    ended: set[str] = set()
    problems = end_all(batch, commit=commit, workers=WORKERS, on_end=ended.add)
    if problems:
        return Recovery(tenant_id, batch.kind, "failed", joined(*problems))
    drop_scratch_databases(batch.work)
    if not commit:
        batch_end(batch, BatchStatus.ROLLED_BACK, problems=[_("It was interrupted and rolled back.")])
        return Recovery(tenant_id, batch.kind, "undone", _("No tenant was changed."))
    missing = lost(batch, ended, workers=WORKERS)
    batch_applied(batch, but=missing)
    batch_end(batch, BatchStatus.COMPLETED, problems=list(missing.values()))
    return Recovery(tenant_id, batch.kind, "finished", joined(*missing.values()))


def _end_strays() -> None:
    """End transactions that were prepared after their batch had been recovered, by a process that had lost its lock."""
    over = MigrationBatch.objects.using(CONTROL).exclude(status__in=UNFINISHED)
    for server in DatabaseServer.objects.using(CONTROL):
        # A server that is down is reported by the operations that need it.
        with suppress(ServerError), ServerSession(server, database_prefix(), BatchKind.MIGRATE.value) as server_session:
            named = map(batch_of, server_session.prepared_transactions(GID_PREFIX))
            for batch in over.filter(pk__in={batch_id for batch_id in named if batch_id}):
                commit = batch.status == BatchStatus.COMPLETED and not batch.dry_run
                end_all(batch, commit=commit, workers=WORKERS)


def backup_recover(backup: Backup) -> Recovery:
    """Remove the files of an interrupted backup and mark its record as failed; return the outcome."""
    try:
        # Exclusive, since a process that is still making the backup holds the lock in shared mode.
        with tenant_lock(backup.tenant_id):
            backup.refresh_from_db(using=CONTROL)
            if backup.status == BackupStatus.COMPLETED:
                return Recovery(backup.tenant_id, backup.kind, "finished")
            if backup.status == BackupStatus.RUNNING:
                backup_abandon(backup, place_at(backup.place), _("It was interrupted."))
    except TenantBusy:
        return Recovery(backup.tenant_id, backup.kind, "busy")
    except (SeoGenError, OperationalError) as error:
        return Recovery(backup.tenant_id, backup.kind, "failed", _reason(error))
    return Recovery(backup.tenant_id, backup.kind, "undone", _("Any partial files were removed."))


def operation_recover(operation: TenantOperation, on_progress: OnProgress, age_identity_file: str | None) -> Recovery:
    tenant_id, kind = operation.tenant_id, operation.kind
    try:
        with tenant_lock(tenant_id):
            operation.refresh_from_db(using="default")
            if operation.status == OperationStatus.RUNNING:
                HANDLERS[kind](operation, on_progress, age_identity_file)
            elif operation.status == OperationStatus.UNDONE:
                return Recovery(tenant_id, kind, "undone")
    except TenantBusy:
        return Recovery(tenant_id, kind, "busy")
    except (SeoGenError, OperationalError) as error:
        operation.refresh_from_db(using="default")
        outcome = "undone" if operation.status == OperationStatus.UNDONE else "failed"
        return Recovery(tenant_id, kind, outcome, _reason(error))
    return Recovery(tenant_id, kind, "finished")


def _reason(error: SeoGenError | OperationalError) -> str:
    """Return a sentence. A database's error is that of one tenant: without the control database, nothing continues."""
    return str(error) if isinstance(error, SeoGenError) else failure_reason(error)


def _finish_create(operation: TenantOperation, on_progress: OnProgress, _identity_file: str | None) -> None:
    tenant = tenant_get(operation.tenant_id)
    assert tenant.server is not None  # a tenant that we provision always has one
    with ServerSession(tenant.server, database_prefix(), work_name(create.KIND, tenant.identity)) as server_session:
        server_session.end_predecessors()
        create.provision_or_undo(server_session, tenant, operation, on_progress)


HANDLERS: dict[str, Callable[[TenantOperation, OnProgress, str | None], None]] = {
    create.KIND: _finish_create,
    new_tenant.CLONE: new_tenant.recover,
    new_tenant.IMPORT: new_tenant.recover,
    steps.KIND: steps.recover,
    workflow.KIND: workflow.recover,
    rotate.KIND: rotate.recover,
    workflow.UNDO: workflow.recover,
}
