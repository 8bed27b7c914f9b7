"""What staff can request: the permission that each kind needs, its steps, and the service that carries it out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from config.base.databases import CONTROL
from tenants.app_hooks import OnStep, operation
from tenants.backup.backup import BACKED_UP, backup_make
from tenants.backup.dump import DumpFormat
from tenants.erasure.delete import tenant_delete
from tenants.errors import TenantNotActive
from tenants.files.age_encryption import recipient_for
from tenants.files.locations import place_at
from tenants.fleet.migrate import tenant_migrate
from tenants.models import ABOUT_SEVERAL, Backup, OperationRequest, RequestKind
from tenants.requests.errors import FleetNotMigrated
from tenants.requests.places import backup_place
from tenants.restore.drill import tenant_drill
from tenants.restore.restore import tenant_restore
from tenants.restore.undo import tenant_restore_undo
from tenants.selectors import tenant_get
from tenants.transfer.clone import tenant_clone
from tenants.transfer.export import tenant_export
from tenants.types import PHASES, BatchProgress, OnProgress, Progress

Result = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    permission: str
    # The steps that its service reports, in order.
    steps: tuple[str, ...]
    run: Callable[[OperationRequest, OnStep], Result]
    # Another permission that it needs, from a role for all tenants; "" for none.
    also: str = ""
    # The permission, from a role for all tenants, that it needs to change all of them at once.
    everywhere: str = ""


def carry_out(request: OperationRequest, on_step: OnStep) -> Result:
    """Call the request's service; return its result, such as the ids of the records that it made.

    Raises what the service raises.
    """
    return KINDS[RequestKind(request.kind)].run(request, on_step)


def _backup(request: OperationRequest, on_step: OnStep) -> Result:
    tenant = tenant_get(request.tenant_id)
    if tenant.status not in BACKED_UP:
        raise TenantNotActive(tenant.id, tenant.status)
    backup = backup_make(
        tenant,
        place_at(backup_place()),
        dump_format=DumpFormat.CUSTOM,
        with_storage=bool(request.arguments["with_storage"]),
        recipient=recipient_for(None),
        on_progress=_listener(request, on_step),
    )
    return {"backup": str(backup.pk)}


def _restore(request: OperationRequest, on_step: OnStep) -> Result:
    report = tenant_restore(
        tenant_id=request.tenant_id,
        **_source(request),
        stop_runs=bool(request.arguments["stop_runs"]),
        on_progress=_listener(request, on_step),
    )
    return {"operation": str(report.operation_id)}


def _undo(request: OperationRequest, on_step: OnStep) -> Result:
    report = tenant_restore_undo(
        tenant_id=request.tenant_id,
        stop_runs=bool(request.arguments["stop_runs"]),
        on_progress=_listener(request, on_step),
    )
    return {"operation": str(report.operation_id)}


def _copy(request: OperationRequest, on_step: OnStep) -> Result:
    report = tenant_clone(
        tenant_id=request.tenant_id,
        new_id=request.arguments["new_id"],
        **_source(request),
        on_progress=_listener(request, on_step),
    )
    return {"tenant": report.tenant_id, "missing_files": len(report.missing_files)}


def _drill(request: OperationRequest, on_step: OnStep) -> Result:
    report = tenant_drill(tenant_id=request.tenant_id, **_source(request), on_progress=_listener(request, on_step))
    return {"seconds": report.seconds, "timing_s": report.timing_s, "rows": sum(report.rows.values())}


def _export(request: OperationRequest, on_step: OnStep) -> Result:
    backup = tenant_export(
        tenant_id=request.tenant_id,
        output=request.arguments["output"],
        recipient=request.arguments["recipient"],
        on_progress=_listener(request, on_step),
    )
    return {"backup": str(backup.pk)}


def _delete(request: OperationRequest, on_step: OnStep) -> Result:
    row = tenant_delete(
        tenant_id=request.tenant_id,
        accept_audit_loss=bool(request.arguments["accept_audit_loss"]),
        accept_lost_backups=bool(request.arguments["accept_lost_backups"]),
        on_progress=_listener(request, on_step),
    )
    return {"erasure": str(row.pk)}


def _migrate(request: OperationRequest, on_step: OnStep) -> Result:
    def listen(progress: BatchProgress) -> None:
        if progress.phase != "end":
            on_step(progress.phase, progress.done, progress.total)

    report = tenant_migrate(
        tenant_id=request.tenant_id or None, dry_run=bool(request.arguments["dry_run"]), on_progress=listen
    )
    if report.problems:
        raise FleetNotMigrated(report.problems)
    return {"batch": str(report.batch_id), "tenants": report.tenant_count, "migrated": report.pending_count}


def _by_app_above(request: OperationRequest, on_step: OnStep) -> Result:
    carries_out = operation(request.kind)
    return carries_out(tenant_id=request.tenant_id, arguments=request.arguments, on_step=on_step)


def _source(request: OperationRequest) -> dict[str, Any]:
    """Return the backup or the point in time that the request names, as arguments of the services."""
    given = request.arguments
    if given.get("backup"):
        backup = Backup.objects.using(CONTROL).get(pk=given["backup"], tenant_id=request.tenant_id)
        return {"backup_file": f"{backup.place}/{backup.name}"}
    if given.get("to_time"):
        return {"to_time": datetime.fromisoformat(given["to_time"])}
    return {}


def _listener(request: OperationRequest, on_step: OnStep) -> OnProgress:
    steps = KINDS[RequestKind(request.kind)].steps

    def listen(progress: Progress) -> None:
        # A restore to a point in time has steps that a restore from a file does not have.
        done = steps.index(progress.step) if progress.step in steps else 0
        on_step(progress.step, done, len(steps))

    return listen


RESTORING = ("recover", "load", "verify", "migrate", "settle", "close", "swap", "open", "reconcile", "done")

KINDS = {
    RequestKind.BACKUP: Kind(
        "tenants.backup_tenant", ("snapshot", "dump", "account", "storage", "manifest", "done"), _backup
    ),
    RequestKind.RESTORE: Kind("tenants.restore_tenant", RESTORING, _restore),
    RequestKind.UNDO: Kind("tenants.restore_tenant", RESTORING, _undo),
    RequestKind.COPY: Kind(
        "tenants.copy_tenant",
        ("recover", "load", "verify", "migrate", "identity", "files", "access", "open", "done"),
        _copy,
        also="tenants.add_tenant",
    ),
    RequestKind.DRILL: Kind("tenants.drill_tenant", ("recover", "load", "verify", "migrate", "done"), _drill),
    RequestKind.EXPORT: Kind(
        "tenants.export_tenant", ("snapshot", "dump", "account", "storage", "bundle", "done"), _export
    ),
    RequestKind.DELETE: Kind(
        "tenants.delete_tenant",
        (
            *("close", "mark", "archive", "list", "storage", "backups", "messages", "databases", "roles"),
            *("certificate", "done"),
        ),
        _delete,
    ),
    RequestKind.MIGRATE: Kind("tenants.migrate_fleet", PHASES, _migrate),
    **{
        kind: Kind("prompts.change_prompt", PHASES, _by_app_above, everywhere="prompts.copy_prompt")
        for kind in ABOUT_SEVERAL
    },
}
