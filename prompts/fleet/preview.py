"""Preview a copy of prompts: compare as the copy does, record what it would change, and later hold the copy to that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID, uuid4

from django.utils.timezone import now
from django.utils.translation import gettext as _

from config.base.databases import CONTROL
from prompts.fleet.compare import (
    Compared,
    are_all,
    compare,
    digest_of,
    digests_of,
    looks_for_change,
    named,
    sources_of,
    versions_text,
)
from prompts.fleet.types import CopyPreview, Previewed, PreviewedChange, Source
from tenants.errors import MigrationFailed
from tenants.fleet.batch import copy_previewed, fleet_lock, tenants_for_batch
from tenants.fleet.batch_jobs import Phases
from tenants.fleet.migrate import WORKERS
from tenants.models import BatchTenant
from tenants.selectors import require_fleet_finished
from tenants.types import OnBatchProgress, ignore_batch_progress


def prompt_copy_preview(
    *,
    from_tenant_id: str,
    tenant_ids: Sequence[str] | None,
    steps: Sequence[str] = (),
    version: int | None = None,
    workers: int = WORKERS,
    on_progress: OnBatchProgress = ignore_batch_progress,
) -> CopyPreview:
    """Record, as a batch that is a dry run, and return what `prompt_copy` would change with the same arguments.

    The record has versions and digests, no templates: those stay in the tenants' databases. If
    there are `problems`, nothing is recorded. Raises what a dry run of `prompt_copy` raises.
    """
    started = now()
    sources = sources_of(from_tenant_id, steps, version)
    with fleet_lock():
        require_fleet_finished()
        tenants = [one for one in tenants_for_batch(named(tenant_ids)) if one.id != from_tenant_id]
        phases, work = Phases(on_progress=on_progress), f"copy {uuid4()}"
        looks = looks_for_change(phases, tenants, work=work, workers=workers)
        found = [] if phases.problems else compare(phases, looks, sources, work=work, workers=workers)
        changing = [] if phases.problems else [one for one in found if one.changing(sources)]
        preview = CopyPreview(
            batch_id=None,
            tenant_count=len(tenants),
            pending_count=len(changing),
            prompts=digests_of(sources),
            to_all=tenant_ids is None or are_all(tenants, from_tenant_id),
            problems=phases.problems,
        )
        if phases.problems:
            return preview
        names = ", ".join(f"{source.step} v{source.version}" for source in sources)
        batch = copy_previewed(
            version=names,
            started_at=started,
            tenant_count=len(tenants),
            timing_ms=phases.timing_ms,
            rows=[_row(one, sources) for one in changing],
            details={"from": from_tenant_id, "prompts": names, "tenants": [one.id for one in tenants]},
        )
        return replace(preview, batch_id=batch.pk)


def require_as_previewed(
    phases: Phases, found: Sequence[Compared], sources: Sequence[Source], previewed: Previewed
) -> None:
    """Record a problem for each tenant in which the copy would not change exactly what the preview found.

    The steps that change are compared, and for each of them the active version (number, id and digest) and the number
    that the new version gets.
    """
    rows = BatchTenant.objects.using(CONTROL).filter(batch=UUID(previewed.preview_id))
    then = {row.tenant_id: row.changes for row in rows}
    today = {one.look.tenant.id: _changes(one, sources) or None for one in found}
    reason = _("The copy would no longer change it as previewed; preview the copy again.")
    phases.problems += [
        str(MigrationFailed(tenant_id, reason))
        for tenant_id in sorted({*then, *today})
        if then.get(tenant_id) != today.get(tenant_id)
    ]


def _row(one: Compared, sources: Sequence[Source]) -> BatchTenant:
    return BatchTenant(
        tenant_id=one.look.tenant.id,
        server=one.look.server.name,
        database=one.look.database,
        from_version=versions_text(one.active, [source.step for source in one.changing(sources)]),
        migrations=[],
        changes=_changes(one, sources),
    )


def _changes(one: Compared, sources: Sequence[Source]) -> list[PreviewedChange]:
    return [
        PreviewedChange(
            step=source.step,
            before=before.version if before else None,
            before_id=before.pk if before else None,
            before_sha256=digest_of(before) if before else None,
            after=one.newest.get(source.step, 0) + 1,
            after_id=None,
        )
        for source in one.changing(sources)
        for before in [one.active.get(source.step)]
    ]
