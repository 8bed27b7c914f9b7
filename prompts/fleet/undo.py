"""Undo a copy of prompts: bring each tenant back to the versions that were active before, all or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from uuid import UUID

from django.utils.translation import gettext as _

from config.base.databases import CONTROL
from prompts.errors import CopyNotUndone, PromptChanged
from prompts.fleet.compare import looks_for_change
from prompts.fleet.two_phase import Batch, Job, batch_run, require_room
from prompts.fleet.types import Change, CopyReport
from prompts.selectors import active_prompts
from prompts.services import lock_prompts, prompt_activate, prompt_deactivate
from tenants.fleet.batch import copy_begin, fleet_lock, tenants_for_batch
from tenants.fleet.migrate import LOCK_TIMEOUT_S, WORKERS
from tenants.models import BatchKind, BatchStatus, MigrationBatch, TenantStatus
from tenants.schema.inspection import Look
from tenants.selectors import require_fleet_finished, tenants_existing
from tenants.types import OnBatchProgress, ignore_batch_progress


def prompt_copy_undo(
    *,
    batch_id: str,
    workers: int = WORKERS,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
    on_progress: OnBatchProgress = ignore_batch_progress,
) -> CopyReport:
    """In each tenant of the copy, activate the versions that were active before it; return a report.

    A step that had no active version is left without one. The copied versions stay, inactive. A tenant whose active
    version is no longer the copied one fails the whole undo; one that the copy did not reach, or that has been erased
    since or is being erased, is left out. Failures of tenants are reported in `problems`. Raises `CopyNotUndone`,
    `TenantNotActive`, `FleetBusy`, `ServerError`, or `FleetUnfinished` or `TenantUnfinished` if an interrupted
    operation, such as this one, must be recovered.
    """
    with fleet_lock():
        require_fleet_finished()
        copy = _copy(batch_id)
        living = tenants_existing().exclude(status=TenantStatus.DELETING)
        rows = copy.tenants.using(CONTROL).filter(tenant_id__in=living.values("pk"))
        changes: dict[str, list[Change]] = {row.tenant_id: row.changes for row in rows if row.changes}
        tenants = tenants_for_batch(sorted(changes))
        record = copy_begin(
            version=copy.version,
            tenant_count=len(tenants),
            undoes=copy.pk,
            details={"undoes": str(copy.pk), "prompts": copy.version, "tenants": sorted(changes)},
        )
        batch = Batch(record=record, workers=workers, lock_timeout_s=lock_timeout_s, on_progress=on_progress)

        def plan(batch: Batch) -> None:
            looks = looks_for_change(batch, tenants, work=record.work, workers=workers)
            if not batch.problems:
                batch.jobs += [_job(look, changes[look.tenant.id]) for look in looks]
                require_room(batch)

        return batch_run(batch, plan)


def _copy(batch_id: str) -> MigrationBatch:
    """Return the copy's record; raise `CopyNotUndone` if there is nothing to undo."""
    copies = MigrationBatch.objects.using(CONTROL).filter(
        kind=BatchKind.PROMPT_COPY, status=BatchStatus.COMPLETED, dry_run=False
    )
    try:
        copy = copies.filter(pk=UUID(batch_id)).first()
    except ValueError:
        copy = None
    if copy is None:
        raise CopyNotUndone(
            _("No completed copy of prompts has the id %(id)r.") % {"id": batch_id[:60]},
            hint=_("Find the id in the control log (action prompt.copy): `seo-gen audit export --control --output -`."),
        )
    if copy.undoes is not None:
        raise CopyNotUndone(_("Batch %(id)s is itself an undo; copy the versions again instead.") % {"id": copy.pk})
    if copies.filter(undoes=copy.pk).exists():
        raise CopyNotUndone(_("Copy %(id)s has already been undone.") % {"id": copy.pk})
    return copy


def _job(look: Look, changes: Sequence[Change]) -> Job:
    return Job(look, partial(_return, changes), ", ".join(f"{one['step']} v{one['after']}" for one in changes))


def _return(changes: Sequence[Change], alias: str) -> list[Change]:
    """Bring the tenant back to the versions before the copy, in its transaction, and return the changes.

    Raises `PromptChanged` if a copied version is no longer the active one.
    """
    lock_prompts(alias)
    active = active_prompts(alias=alias, steps=[change["step"] for change in changes])
    for change in changes:
        now = active.get(change["step"])
        if now is None or now.pk != change["after_id"]:
            raise PromptChanged(
                _("Its active version of step %(step)s is no longer the copied one, v%(version)d.")
                % {"step": change["step"], "version": change["after"]}
            )
        if change["before_id"] is None:
            prompt_deactivate(alias=alias, prompt_id=now.pk)
        else:
            prompt_activate(alias=alias, prompt_id=change["before_id"])
    return [_reversed(change) for change in changes]


def _reversed(change: Change) -> Change:
    return Change(
        step=change["step"],
        before=change["after"],
        before_id=change["after_id"],
        after=change["before"],
        after_id=change["before_id"],
    )
