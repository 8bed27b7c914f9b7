"""Copy a tenant's versions of prompts to other tenants, all or nothing, and activate them there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from uuid import uuid4

from django.db.utils import Error
from django.utils.translation import gettext as _

from prompts.content import check_agreement
from prompts.diff import is_same, unified_diff
from prompts.documents import READABLE
from prompts.errors import InvalidPrompt, PromptChanged
from prompts.fleet.two_phase import Batch, Job, batch_run, require_room
from prompts.fleet.types import Change, CopyReport, Source, StepDifference
from prompts.models import Prompt
from prompts.selectors import active_prompts, prompt_get, prompt_versions
from prompts.services import lock_prompts, prompt_activate, prompt_create
from tenants.errors import MigrationFailed
from tenants.fleet.batch import copy_begin, fleet_lock, tenants_for_batch
from tenants.fleet.batch_jobs import Phases
from tenants.fleet.check import check_tenants
from tenants.fleet.migrate import LOCK_TIMEOUT_S, WORKERS
from tenants.models import Tenant
from tenants.parallel import in_parallel
from tenants.routing.context import tenant_context
from tenants.routing.owner_connection import owner_connection
from tenants.schema.inspection import Look, unusable
from tenants.schema.releases import release
from tenants.selectors import require_fleet_finished, tenant_get, tenants_existing
from tenants.types import OnBatchProgress, ignore_batch_progress

# The note of copies of versions that have none.
NOTE = "Copied from another tenant."
# {step: its active version} of one tenant.
Active = Mapping[str, Prompt]


def prompt_copy(
    *,
    from_tenant_id: str,
    tenant_ids: Sequence[str] | None,
    steps: Sequence[str] = (),
    version: int | None = None,
    dry_run: bool = False,
    workers: int = WORKERS,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
    on_progress: OnBatchProgress = ignore_batch_progress,
) -> CopyReport:
    """Copy versions to the named tenants, or to all if `tenant_ids` is None, and activate them; return a report.

    Copies the active versions of `steps`, of all steps if there are none, or for one step its `version`. A tenant whose
    active version is the same keeps it. With `dry_run` nothing is changed, and the report has each difference. Failures
    of tenants are reported in `problems`. Raises `UnknownTenant`, `TenantNotActive`, `UnknownPrompt`, `PromptMismatch`,
    `FleetBusy`, or `FleetUnfinished` or `TenantUnfinished` if an interrupted operation must be recovered first.

    1. lock and record; 2. check every tenant, before any change; 3. compare; 4. prepare: the first failure rolls
    everything back; 5. record the decision durably; 6. commit everywhere.
    """
    sources = _sources(from_tenant_id, steps, version)
    with fleet_lock():
        require_fleet_finished()
        tenants = [one for one in tenants_for_batch(_named(tenant_ids)) if one.id != from_tenant_id]
        if dry_run:
            return _dry_run(sources, tenants, workers, on_progress)
        names = ", ".join(f"{source.step} v{source.version}" for source in sources)
        record = copy_begin(
            version=names,
            tenant_count=len(tenants),
            undoes=None,
            details={"from": from_tenant_id, "prompts": names, "tenants": [tenant.id for tenant in tenants]},
            to_all=_approved_arguments(from_tenant_id, sources)
            if tenant_ids is None or _are_all(tenants, from_tenant_id)
            else None,
        )
        batch = Batch(record=record, workers=workers, lock_timeout_s=lock_timeout_s, on_progress=on_progress)
        return batch_run(batch, partial(_plan, tenants=tenants, sources=sources))


def _are_all(tenants: Sequence[Tenant], from_tenant_id: str) -> bool:
    """Return whether no other tenant is left out, however they were named."""
    return not tenants_existing().exclude(pk__in=[from_tenant_id, *(tenant.pk for tenant in tenants)]).exists()


def _approved_arguments(from_tenant_id: str, sources: Sequence[Source]) -> dict[str, object]:
    """Return what a second person approves: each version, by its content, since a draft may still change."""
    texts = {source.step: json.dumps([source.content, source.variables], sort_keys=True) for source in sources}
    versions = [
        {"step": one.step, "version": one.version, "sha256": hashlib.sha256(texts[one.step].encode()).hexdigest()}
        for one in sources
    ]
    return {"from": from_tenant_id, "prompts": versions}


def looks_for_change(phases: Phases, tenants: Sequence[Tenant], *, work: str, workers: int) -> list[Look]:
    """Inspect the tenants, and return the results; record a problem for each that cannot be changed yet."""
    code = release()
    with phases.phase("check", len(tenants)) as one_more:
        groups, problems = check_tenants(tenants, code=code, work=work, workers=workers, on_look=one_more)
        looks = [look for one in groups for look in one.looks]
        behind = [look for look in looks if not code.is_complete(look.history)]
        reason = _("It has migrations to apply; run `seo-gen tenant migrate --all` first.")
        phases.problems += [*problems, *(str(MigrationFailed(look.tenant.id, reason)) for look in behind)]
    return sorted(looks, key=lambda look: look.tenant.id)


def versions_text(active: Active, steps: Sequence[str]) -> str:
    return ", ".join(f"{step} v{active[step].version}" for step in steps if step in active)


def _named(tenant_ids: Sequence[str] | None) -> list[str] | None:
    # Each once, in order: a tenant that is named twice is changed once.
    return None if tenant_ids is None else list(dict.fromkeys(tenant_ids))


def _sources(tenant_id: str, steps: Sequence[str], version: int | None) -> list[Source]:
    """Read what is to be copied; raise if a version does not exist or could not be activated."""
    if version is not None and len(set(steps)) != 1:
        raise InvalidPrompt(
            _("A version belongs to one step: pass exactly one step with it."), code="prompt_copy_ambiguous"
        )
    with tenant_context(tenant_get(tenant_id), statuses=READABLE) as alias:
        if steps:
            prompts = [prompt_get(alias=alias, step=step, version=version) for step in dict.fromkeys(steps)]
        else:
            prompts = list(prompt_versions(alias=alias).filter(is_active=True))
        for prompt in prompts:
            check_agreement(prompt)
    return [
        Source(prompt.step, prompt.version, prompt.content, prompt.variables or [], prompt.note or NOTE)
        for prompt in prompts
    ]


def _dry_run(
    sources: Sequence[Source], tenants: Sequence[Tenant], workers: int, on_progress: OnBatchProgress
) -> CopyReport:
    """Return the report of checking and comparing, which changes nothing."""
    phases, work = Phases(on_progress=on_progress), f"copy {uuid4()}"
    looks = looks_for_change(phases, tenants, work=work, workers=workers)
    found = [] if phases.problems else _compare(phases, looks, sources, work=work, workers=workers)
    differences = [
        StepDifference(look.tenant.id, source.step, before.version if before else None, None, _diff(before, source))
        for look, active in found
        for source in sources
        for before in [active.get(source.step)]
        if before is None or not is_same(before, source)
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


def _plan(batch: Batch, *, tenants: Sequence[Tenant], sources: Sequence[Source]) -> None:
    work = batch.record.work
    looks = looks_for_change(batch, tenants, work=work, workers=batch.workers)
    if batch.problems:
        return
    for look, active in _compare(batch, looks, sources, work=work, workers=batch.workers):
        changing = [
            source for source in sources if source.step not in active or not is_same(active[source.step], source)
        ]
        if changing:
            steps = [source.step for source in changing]
            batch.jobs.append(Job(look, partial(_bring, changing, active), versions_text(active, steps)))
    require_room(batch)


def _compare(
    phases: Phases, looks: Sequence[Look], sources: Sequence[Source], *, work: str, workers: int
) -> list[tuple[Look, Active]]:
    """Return each tenant with its active versions of the steps; record a problem for each that cannot be read."""
    steps = [source.step for source in sources]

    def read(look: Look) -> Active:
        with owner_connection(look.server, look.database, work) as connection:
            return active_prompts(alias=connection.alias, steps=steps)

    found = []
    with phases.phase("compare", len(looks)) as one_more:
        for look, outcome in in_parallel(read, looks, workers):
            if isinstance(outcome, Error):
                phases.problems.append(str(unusable(look.tenant.id, outcome)))
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                found.append((look, outcome))
            one_more(look.tenant.id)
    return sorted(found, key=lambda one: one[0].tenant.id)


def _bring(sources: Sequence[Source], expected: Active, alias: str) -> list[Change]:
    """In the tenant's transaction, create and activate the versions; raise `PromptChanged` if the active ones have
    changed.
    """
    lock_prompts(alias)
    now = active_prompts(alias=alias, steps=[source.step for source in sources])
    changes = []
    for source in sources:
        before, seen = now.get(source.step), expected.get(source.step)
        if (before and before.pk) != (seen and seen.pk):
            raise PromptChanged(
                _("Its active version of step %(step)s changed while it was being compared.") % {"step": source.step}
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
    return unified_diff(before, source, old_name=old, new_name=f"{source.step} v{source.version} of the source")
