"""Find what an earlier claim of a request left behind, and let recovery finish or undo it (`tenants.unfinished`).

Everything that an operation records has the request's id in the audit log, so nothing is done twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from audit.control.models import ControlAuditLog
from config.base.databases import CONTROL
from tenants.app_hooks import OnStep
from tenants.models import (
    UNFINISHED,
    Backup,
    BackupStatus,
    BatchKind,
    BatchStatus,
    MigrationBatch,
    OperationRequest,
    OperationStatus,
    RequestKind,
    TenantOperation,
)
from tenants.requests.errors import (
    FleetNotMigrated,
    OperationBusy,
    OperationInterrupted,
    OperationUndone,
    OperationUnfinished,
    PromptsNotCopied,
)
from tenants.requests.kinds import Result
from tenants.types import Progress
from tenants.unfinished import Recovery, backup_recover, batch_recover, operation_recover


def made_by(request: OperationRequest) -> TenantOperation | Backup | MigrationBatch | None:
    """Return the newest record that the request's operation made; None if it has not begun or is a drill."""
    entries = ControlAuditLog.objects.using(CONTROL).filter(operation_id=str(request.pk))
    found = list(entries.order_by("-sequence").values_list("resource_type", "resource_id", "details"))
    match request.kind:
        case RequestKind.MIGRATE:
            batches = [resource_id for kind, resource_id, _details in found if kind == "migration_batch"]
            return MigrationBatch.objects.using(CONTROL).filter(pk__in=batches[:1]).first()
        case RequestKind.PROMPT_COPY | RequestKind.PROMPT_UNDO:
            batches = [resource_id for kind, resource_id, _details in found if kind == "prompt_copy"]
            return MigrationBatch.objects.using(CONTROL).filter(pk__in=batches[:1]).first()
        case RequestKind.BACKUP | RequestKind.EXPORT:
            backups = _named("backup", (details for _kind, _id, details in found))
            return Backup.objects.using(CONTROL).filter(pk__in=backups).order_by("-started_at").first()
        case RequestKind.DRILL:
            return None
    operations = _named("operation", (details for _kind, _id, details in found))
    return TenantOperation.objects.using(CONTROL).filter(pk__in=operations).order_by("-started_at").first()


def is_unfinished(request: OperationRequest) -> bool:
    """Return whether the request's operation has begun, and was neither finished nor undone; False for a drill."""
    match made_by(request):
        case TenantOperation(status=OperationStatus.RUNNING) | Backup(status=BackupStatus.RUNNING):
            return True
        case MigrationBatch(status=status):
            return status in UNFINISHED
    return False


def recovered(request: OperationRequest, on_step: OnStep) -> Result | None:
    """Finish or undo what an earlier claim began; return its result, or None if it has to begin from the start.

    Raises `OperationBusy` if the earlier worker is still carrying it out, `OperationInterrupted` or `OperationUndone`
    if it was undone and staff have to decide what to do, `OperationUnfinished` if recovery failed, `FleetNotMigrated`
    if a migration was rolled back or did not reach all tenants, and `PromptsNotCopied` if a copy of prompts, or its
    undo, did not reach all tenants.
    """
    made = made_by(request)
    match made:
        case TenantOperation():
            return _operation(request, made, on_step)
        case Backup():
            return _backup(made)
        case MigrationBatch():
            return _copy(made) if made.kind == BatchKind.PROMPT_COPY else _batch(made)
    return None


def _operation(request: OperationRequest, operation: TenantOperation, on_step: OnStep) -> Result:
    reason = ""
    if operation.status == OperationStatus.RUNNING:

        def listen(progress: Progress) -> None:
            on_step(progress.step, 0, 0)

        reason = _reason(operation_recover(operation, listen, None))
        operation.refresh_from_db(using=CONTROL)
    if operation.status == OperationStatus.RUNNING:
        raise OperationUnfinished(reason)
    if operation.status == OperationStatus.UNDONE:
        raise OperationInterrupted(reason) if reason else OperationUndone(operation.error)
    match request.kind:
        case RequestKind.DELETE:
            return {"erasure": str(operation.pk)}
        case RequestKind.COPY:
            return {"tenant": request.arguments["new_id"]}
    return {"operation": str(operation.pk)}


def _backup(backup: Backup) -> Result | None:
    if backup.status == BackupStatus.RUNNING:
        reason = _reason(backup_recover(backup))
        backup.refresh_from_db(using=CONTROL)
        if backup.status == BackupStatus.RUNNING:
            raise OperationUnfinished(reason)
    return {"backup": str(backup.pk)} if backup.status == BackupStatus.COMPLETED else None


def _copy(batch: MigrationBatch) -> Result | None:
    """Return the result of a committed copy of prompts; None for one that was rolled back, and for a preview."""
    _end_batch(batch)
    if batch.dry_run or batch.status == BatchStatus.ROLLED_BACK:
        return None
    if batch.error:
        raise PromptsNotCopied(batch.error, code="tenants_not_changed")
    return {"batch": str(batch.pk), "tenants": batch.tenant_count, "changed": batch.pending_count}


def _batch(batch: MigrationBatch) -> Result:
    _end_batch(batch)
    # A batch that was committed may have missed tenants.
    if batch.status == BatchStatus.ROLLED_BACK or batch.error:
        raise FleetNotMigrated([batch.error])
    return {"batch": str(batch.pk), "tenants": batch.tenant_count, "migrated": batch.pending_count}


def _end_batch(batch: MigrationBatch) -> None:
    if batch.status in UNFINISHED:
        reason = _reason(batch_recover(batch))
        batch.refresh_from_db(using=CONTROL)
        if batch.status in UNFINISHED:
            raise OperationUnfinished(reason)


def _reason(recovery: Recovery) -> str:
    if recovery.outcome == "busy":
        raise OperationBusy
    return recovery.reason


def _named(key: str, details: Iterable[dict[str, Any] | None]) -> set[UUID]:
    return {UUID(str(one[key])) for one in details if one and key in one}
