"""Copy a tenant's versions of prompts to other tenants, all or nothing, and activate them there."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from uuid import uuid4

from django.utils.translation import gettext as _

from prompts.diff import unified_diff
from prompts.errors import PromptChanged
from prompts.fleet.compare import (
    Active,
    are_all,
    compare,
    digests_of,
    looks_for_change,
    named,
    sources_of,
    versions_text,
)
from prompts.fleet.preview import require_as_previewed
from prompts.fleet.two_phase import Batch, Job, batch_run, require_room
from prompts.fleet.types import Change, CopyReport, Previewed, Source, StepDifference
from prompts.models import Prompt
from prompts.selectors import active_prompts
from prompts.services import lock_prompts, prompt_activate, prompt_create
from tenants.fleet.batch import copy_approval, copy_begin, fleet_lock, tenants_for_batch
from tenants.fleet.batch_jobs import Phases
from tenants.fleet.migrate import LOCK_TIMEOUT_S, WORKERS
from tenants.models import Tenant
from tenants.selectors import require_fleet_finished
from tenants.types import OnBatchProgress, ignore_batch_progress


def prompt_copy(
    *,
    from_tenant_id: str,
    tenant_ids: Sequence[str] | None,
    steps: Sequence[str] = (),
    version: int | None = None,
    dry_run: bool = False,
    previewed: Previewed | None = None,
    workers: int = WORKERS,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
    on_progress: OnBatchProgress = ignore_batch_progress,
) -> CopyReport:
    """Copy versions to the named tenants, or to all if `tenant_ids` is None, and activate them; return a report.

    Copies the active versions of `steps` (empty: of all steps), or `version` of a single step. The
    source is left out; a tenant whose active version is the same keeps it. With `dry_run` nothing
    is changed, and the report has each difference. With `previewed` nothing is changed either,
    unless the copy finds exactly what the preview found. Failures of tenants are reported in
    `problems`. Raises `UnknownTenant`, `TenantNotActive`, `UnknownPrompt`, `InvalidPrompt`,
    `PromptMismatch`, `SandboxUnavailable`, `PromptChanged`, `FleetBusy`, `ServerError`, what
    `require_approval` raises, or `FleetUnfinished` or `TenantUnfinished` if an interrupted
    operation, such as this one, must be recovered.

    1. read and check the versions; 2. lock, require the approval of a copy to all tenants, and record; 3. check every
    tenant, before any change; 4. compare; 5. prepare: the first failure rolls everything back; 6. record the decision
    durably; 7. commit everywhere.
    """
    sources = sources_of(from_tenant_id, steps, version)
    if previewed is not None and digests_of(sources) != previewed.prompts:
        raise PromptChanged(
            _("The versions to copy are no longer those that were previewed."), hint=_("Preview the copy again.")
        )
    with fleet_lock():
        require_fleet_finished()
        tenants = [one for one in tenants_for_batch(named(tenant_ids)) if one.id != from_tenant_id]
        if dry_run:
            return _dry_run(sources, tenants, workers, on_progress)
        names = ", ".join(f"{source.step} v{source.version}" for source in sources)
        details: dict[str, object] = {"from": from_tenant_id, "prompts": names, "tenants": [one.id for one in tenants]}
        record = copy_begin(
            version=names,
            tenant_count=len(tenants),
            undoes=None,
            details=details | ({"preview": previewed.preview_id} if previewed else {}),
            to_all=copy_approval(
                source=from_tenant_id,
                prompts=digests_of(sources),
                preview=previewed.preview_id if previewed else None,
            )
            if tenant_ids is None or are_all(tenants, from_tenant_id)
            else None,
        )
        batch = Batch(record=record, workers=workers, lock_timeout_s=lock_timeout_s, on_progress=on_progress)
        return batch_run(batch, partial(_plan, tenants=tenants, sources=sources, previewed=previewed))


def _dry_run(
    sources: Sequence[Source], tenants: Sequence[Tenant], workers: int, on_progress: OnBatchProgress
) -> CopyReport:
    """Return the report of checking and comparing, which changes nothing."""
    phases, work = Phases(on_progress=on_progress), f"copy {uuid4()}"
    looks = looks_for_change(phases, tenants, work=work, workers=workers)
    found = [] if phases.problems else compare(phases, looks, sources, work=work, workers=workers)
    differences = [
        StepDifference(one.look.tenant.id, source.step, before.version if before else None, None, _diff(before, source))
        for one in found
        for source in one.changing(sources)
        for before in [one.active.get(source.step)]
    ]
    return CopyReport(
        batch_id=None,
        outcome="rolled_back" if phases.problems else "completed",
        dry_run=True,
        tenant_count=len(tenants),
        pending_count=len({one.tenant_id for one in differences}),
        differences=differences,
        problems=phases.problems,
        timing_ms=phases.timing_ms,
    )


def _plan(batch: Batch, *, tenants: Sequence[Tenant], sources: Sequence[Source], previewed: Previewed | None) -> None:
    work = batch.record.work
    looks = looks_for_change(batch, tenants, work=work, workers=batch.workers)
    if batch.problems:
        return
    found = compare(batch, looks, sources, work=work, workers=batch.workers)
    if previewed is not None:
        require_as_previewed(batch, found, sources, previewed)
    for one in found:
        changing = one.changing(sources)
        if changing:
            before = versions_text(one.active, [source.step for source in changing])
            batch.jobs.append(Job(one.look, partial(_bring, changing, one.active), before))
    require_room(batch)


def _bring(sources: Sequence[Source], expected: Active, alias: str) -> list[Change]:
    """Create and activate the versions in the tenant's transaction, and return the changes.

    Raises `PromptChanged` if the active versions have changed since they were compared.
    """
    lock_prompts(alias)
    now = active_prompts(alias=alias, steps=[source.step for source in sources])
    changes = []
    for source in sources:
        before, seen = now.get(source.step), expected.get(source.step)
        if (before and before.pk) != (seen and seen.pk):
            raise PromptChanged(
                _("Its active version of step %(step)s has changed since it was compared.") % {"step": source.step}
            )
        made = prompt_create(
            alias=alias, step=source.step, content=source.content, variables=source.variables, note=source.note
        )
        prompt_activate(alias=alias, prompt_id=made.pk)
        changes.append(
            Change(
                step=source.step,
                before=before.version if before else None,
                before_id=before.pk if before else None,
                after=made.version,
                after_id=made.pk,
            )
        )
    return changes


def _diff(before: Prompt | None, source: Source) -> str:
    old = f"{before.step} v{before.version}" if before else source.step
    new = _("%(prompt)s of the source") % {"prompt": f"{source.step} v{source.version}"}
    return unified_diff(before, source, old_name=old, new_name=new)
