"""The lock that a migration of tenants holds, and its record. The lock dies with its process; the record stays.

A batch that is `preparing` or `committing` while no one holds the lock was interrupted; `tenants.unfinished` completes
it or rolls it back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from django.db import transaction
from django.db.models.functions import Now

from audit.log.actor import current_actor
from audit.log.entries import record
from config.base.databases import CONTROL
from tenants.errors import FleetBusy
from tenants.models import UNFINISHED, BatchStatus, MigrationBatch, Tenant
from tenants.operations import advisory_lock
from tenants.selectors import require_fleet_finished

FLEET = "seo-gen:fleet"


@contextmanager
def fleet_lock() -> Iterator[None]:
    """Lock the fleet exclusively, for a migration. Raises `FleetBusy` if another process holds the lock."""
    with advisory_lock(FLEET, busy=FleetBusy):
        yield


@contextmanager
def fleet_shared(*, wait_s: float = 600.0) -> Iterator[None]:
    """Keep fleet migrations from starting inside the block; first wait up to `wait_s` for a running one.

    Raises `FleetBusy`, or `FleetUnfinished` if a migration was interrupted, which leaves the fleet's version undecided.
    """
    with advisory_lock(FLEET, wait_s=wait_s, busy=FleetBusy, shared=True):
        require_fleet_finished()
        yield


def batch_begin(*, tenant_id: str, dry_run: bool, version: str, tenant_count: int) -> MigrationBatch:
    """Record the batch before any tenant is touched; `tenant_id` is "" for all tenants."""
    with transaction.atomic(using=CONTROL):
        batch = MigrationBatch.objects.using(CONTROL).create(
            tenant_id=tenant_id,
            dry_run=dry_run,
            version=version,
            tenant_count=tenant_count,
            user_id=current_actor().user_id,
        )
        _audit("tenant.migrate", batch, {"to": version, "tenant": tenant_id or "*", "dry_run": dry_run})
    return batch


def batch_decide(batch: MigrationBatch, decision: BatchStatus) -> bool:
    """Write the decision, COMMITTING or ROLLING_BACK, durably; return False if the other decision was made first.

    The first decision wins, even if a process lost its connection, and with it the lock.
    """
    with transaction.atomic(using=CONTROL):
        row = MigrationBatch.objects.using(CONTROL).select_for_update().get(pk=batch.pk)
        if row.status != BatchStatus.PREPARING:
            return row.status == decision
        row.status = decision
        row.decided_at = Now()
        row.save(using=CONTROL, update_fields=["status", "decided_at"])
        if decision == BatchStatus.COMMITTING:
            _audit("tenant.migrate.commit", batch, {"tenants": _tenants(batch)})
    return True


def batch_applied(batch: MigrationBatch, *, but: Collection[str]) -> None:
    """Record that the batch's tenants, except those in `but`, now have its version."""
    Tenant.objects.using(CONTROL).filter(pk__in=set(_tenants(batch)) - set(but)).update(
        schema_version=batch.version, schema_drift=[], schema_checked_at=Now()
    )


def batch_end(
    batch: MigrationBatch, status: BatchStatus, *, problems: Sequence[str] = (), timing_ms: dict[str, int] | None = None
) -> None:
    """Close the record. Call this once none of the batch's prepared transactions is left."""
    with transaction.atomic(using=CONTROL):
        MigrationBatch.objects.using(CONTROL).filter(pk=batch.pk, status__in=UNFINISHED).update(
            status=status, error="\n".join(problems), timing_ms=timing_ms, finished_at=Now()
        )
        undone = status == BatchStatus.ROLLED_BACK
        _audit("tenant.migrate.undo" if undone else "tenant.migrate.complete", batch, {"dry_run": batch.dry_run})


def _tenants(batch: MigrationBatch) -> list[str]:
    return list(batch.tenants.using(CONTROL).values_list("tenant_id", flat=True))


def _audit(action: str, batch: MigrationBatch, details: dict[str, object]) -> None:
    record(using=CONTROL, action=action, resource_type="migration_batch", resource_id=str(batch.pk), details=details)
