"""The lock that a batch of tenants holds, and its record. The lock dies with its process; the record stays.

A batch that has not ended while no batch holds the lock was interrupted; `tenants.unfinished` completes it or rolls it
back.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from django.db import transaction
from django.db.models.functions import Now

from audit.log.actor import current_actor
from audit.log.entries import record
from config.base.approvals import COPY_ALL, require_approval
from config.base.databases import CONTROL
from tenants.errors import FleetBusy, TenantNotActive, TenantUnfinished
from tenants.models import UNFINISHED, BatchKind, BatchStatus, BatchTenant, MigrationBatch, Tenant, TenantStatus
from tenants.operations import advisory_lock
from tenants.selectors import operations_unfinished, require_fleet_finished, tenant_get, tenants_existing

FLEET = "seo-gen:fleet"
CHANGEABLE = (TenantStatus.ACTIVE, TenantStatus.SUSPENDED)
# How audit entries name a batch: its actions, and the resource.
NAMES = {
    BatchKind.MIGRATE: ("tenant.migrate", "migration_batch"),
    BatchKind.PROMPT_COPY: ("prompt.copy", "prompt_copy"),
}


@contextmanager
def fleet_lock() -> Iterator[None]:
    """Lock the fleet exclusively, for a batch. Raises `FleetBusy` if another process holds the lock."""
    with advisory_lock(FLEET, busy=FleetBusy):
        yield


@contextmanager
def fleet_shared(*, wait_s: float = 600.0) -> Iterator[None]:
    """Keep batches from starting while the block runs; first wait up to `wait_s` seconds for a running one.

    Raises `FleetBusy`, or `FleetUnfinished` if a batch was interrupted, which leaves the fleet's version undecided.
    """
    with advisory_lock(FLEET, wait_s=wait_s, busy=FleetBusy, shared=True):
        require_fleet_finished()
        yield


def batch_begin(*, tenant_id: str, dry_run: bool, version: str, tenant_count: int) -> MigrationBatch:
    """Record a migration before any tenant is touched, and return the record; `tenant_id` is "" for all tenants."""
    details: dict[str, object] = {"to": version, "tenant": tenant_id or "*", "dry_run": dry_run}
    with transaction.atomic(using=CONTROL):
        batch = MigrationBatch.objects.using(CONTROL).create(
            tenant_id=tenant_id,
            dry_run=dry_run,
            version=version,
            tenant_count=tenant_count,
            user_id=current_actor().user_id,
            kind=BatchKind.MIGRATE,
        )
        _audit("", batch, details)
    return batch


def copy_begin(
    *,
    version: str,
    tenant_count: int,
    undoes: uuid.UUID | None,
    details: dict[str, object],
    to_all: dict[str, object] | None = None,
) -> MigrationBatch:
    """Record a copy of prompts before any tenant is touched, and return the record; `details` go into its audit entry.

    `to_all`, for a copy to all tenants, is what a second person must have approved if the settings require that. Raises
    `ApprovalRequired` or `ApprovalRefused` if no valid approval was given.
    """
    with transaction.atomic(using=CONTROL):
        if to_all is not None:
            require_approval(COPY_ALL, "", to_all)
        batch = MigrationBatch.objects.using(CONTROL).create(
            tenant_id="",
            version=version,
            tenant_count=tenant_count,
            user_id=current_actor().user_id,
            kind=BatchKind.PROMPT_COPY,
            undoes=undoes,
        )
        _audit("", batch, details)
    return batch


def copy_approval(*, source: str, prompts: list[dict[str, object]], preview: str | None) -> dict[str, object]:
    """Return what the approval of a copy to all tenants covers: its source, the versions, and the preview, if any."""
    approved: dict[str, object] = {"from": source, "prompts": prompts}
    return approved | ({"preview": preview} if preview else {})


def copy_previewed(
    *,
    version: str,
    started_at: datetime,
    tenant_count: int,
    timing_ms: dict[str, int],
    rows: Sequence[BatchTenant],
    details: dict[str, object],
) -> MigrationBatch:
    """Record a finished preview of a copy of prompts, and return the record; `rows` are what the copy would change."""
    with transaction.atomic(using=CONTROL):
        batch = MigrationBatch.objects.using(CONTROL).create(
            tenant_id="",
            version=version,
            dry_run=True,
            status=BatchStatus.COMPLETED,
            tenant_count=tenant_count,
            pending_count=len(rows),
            timing_ms=timing_ms,
            user_id=current_actor().user_id,
            kind=BatchKind.PROMPT_COPY,
            started_at=started_at,
            finished_at=Now(),
        )
        for row in rows:
            row.batch = batch
        BatchTenant.objects.using(CONTROL).bulk_create(rows)
        _audit(".preview", batch, details)
    return batch


def tenants_for_batch(tenant_ids: Collection[str] | None) -> list[Tenant]:
    """Return these tenants, or all that are not being erased; raise an error if a batch cannot change one of them.

    The error is `UnknownTenant`, `TenantNotActive` or `TenantUnfinished`. Call this with the fleet locked. Suspended
    tenants take part.
    """
    # A tenant that is being erased needs no change, and erasing it can take a long time.
    living = tenants_existing().exclude(status=TenantStatus.DELETING)
    tenants = list(living) if tenant_ids is None else [tenant_get(tenant_id) for tenant_id in tenant_ids]
    unfinished = {operation.tenant_id: operation.kind for operation in operations_unfinished()}
    for tenant in tenants:
        if tenant.id in unfinished:
            raise TenantUnfinished(tenant.id, unfinished[tenant.id])
        if tenant.status not in CHANGEABLE:
            raise TenantNotActive(tenant.id, tenant.status)
    return tenants


def batch_decide(batch: MigrationBatch, decision: BatchStatus) -> bool:
    """Write the decision, COMMITTING or ROLLING_BACK, durably; return False if it comes too late.

    The first decision wins, even if a process lost its connection, and with it the lock. Repeating that decision
    changes nothing and returns True, also after another process has rolled the batch back and ended it, but not once
    the batch is completed.
    """
    with transaction.atomic(using=CONTROL):
        row = MigrationBatch.objects.using(CONTROL).select_for_update().get(pk=batch.pk)
        if row.status != BatchStatus.PREPARING:
            over = decision == BatchStatus.ROLLING_BACK and row.status == BatchStatus.ROLLED_BACK
            return over or row.status == decision
        row.status = decision
        row.decided_at = Now()
        row.save(using=CONTROL, update_fields=["status", "decided_at"])
        if decision == BatchStatus.COMMITTING:
            _audit(".commit", batch, {"tenants": _tenants(batch)})
    return True


def batch_applied(batch: MigrationBatch, *, but: Collection[str]) -> None:
    """Record that a migration's tenants, except those in `but`, now have its version; do nothing for other batches."""
    if batch.kind != BatchKind.MIGRATE:
        return
    Tenant.objects.using(CONTROL).filter(pk__in=set(_tenants(batch)) - set(but)).update(
        schema_version=batch.version, schema_drift=[], schema_checked_at=Now()
    )


def batch_end(
    batch: MigrationBatch, status: BatchStatus, *, problems: Sequence[str] = (), timing_ms: dict[str, int] | None = None
) -> None:
    """Close the record unless another process has. Call this once none of the batch's prepared transactions is left."""
    with transaction.atomic(using=CONTROL):
        ended = MigrationBatch.objects.using(CONTROL).filter(pk=batch.pk, status__in=UNFINISHED)
        if not ended.update(status=status, error="\n".join(problems), timing_ms=timing_ms, finished_at=Now()):
            return
        undone = status == BatchStatus.ROLLED_BACK
        _audit(".undo" if undone else ".complete", batch, {"dry_run": batch.dry_run})


def _tenants(batch: MigrationBatch) -> list[str]:
    return list(batch.tenants.using(CONTROL).values_list("tenant_id", flat=True))


def _audit(step: str, batch: MigrationBatch, details: dict[str, object]) -> None:
    noun, resource = NAMES[BatchKind(batch.kind)]
    record(using=CONTROL, action=noun + step, resource_type=resource, resource_id=str(batch.pk), details=details)
