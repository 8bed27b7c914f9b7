"""Run a step and all later ones again, and keep the replaced outputs, for `run retry --from` and for sending back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from django.db import transaction
from django.db.models import F

from runs.models import Run, Step, StepStatus
from runs.services.transition import FRESH, Transition, continue_run, fence, lock_run, lock_steps, record_change
from runs.services.versions import Replaced, files_to_keep, keep, record_kept
from tenants.lifecycle.work_mark import mark_working
from tenants.routing.context import tenant_context

# Takes the alias and the locked run and steps, and returns the step to begin with. It may raise.
Choose = Callable[[str, Run, Sequence[Step]], Step]
NO_OUTPUT: dict[str, object] = {
    "started_at": None,
    "completed_at": None,
    "output_path": None,
    "output_digest": None,
    "summary": None,
    "metrics": None,
    "is_truncated": False,
}


def rerun(
    *,
    tenant_id: str,
    run_id: UUID | str,
    transition: Transition,
    action: str,
    choose: Choose,
    comment: str | None = None,
    **details: object,
) -> Run:
    """Make the run begin again with the step that `choose` returns, and return the run.

    1. lock run and steps, check the state and choose the step; 2. if files of outputs that would be replaced are not
    copied yet, unlock, copy them, and start over, since slow storage must not keep rows locked, and the run may change
    meanwhile; 3. make the rows refer to the copies, reset the steps, and record `action` with `details`; 4. wake a
    worker after the commit, unless the first step needs a review before it runs. `comment` goes to that step's next
    attempts. If the process is killed, either all of 3 has happened, and the sweep sends the wake-up, or nothing but
    the copying. Raises what `choose` raises, `TenantError`, `UnknownRun`, `RunStateConflict` or `StorageError`.
    """
    sizes: dict[Replaced, int | None] = {}
    with tenant_context(tenant_id) as alias:
        mark_working(tenant_id)
        while True:
            with transaction.atomic(using=alias):
                run = lock_run(alias, run_id, transition)
                met, steps = run.status, lock_steps(alias, run)
                first = choose(alias, run, steps)
                again = [step for step in steps if step.position >= first.position]
                files = files_to_keep(alias, again)
                missing = [file for file in files if file not in sizes]
                if not missing:
                    kept = {file: sizes[file] for file in files}
                    record_kept(alias, run.pk, kept)
                    _reset(alias, first, again, comment)
                    continue_run(alias=alias, tenant_id=tenant_id, run=run, steps=steps, current=first)
                    changed = {"step": first.step, "from": met, "status": run.status, **_replaced(kept), **details}
                    record_change(alias, action, run, **changed)
                    return run
            sizes.update((file, keep(file)) for file in missing)


def _reset(alias: str, first: Step, again: Sequence[Step], comment: str | None) -> None:
    """Reset the steps to be run again, and withdraw the approvals of all but the first, given for the old outputs.

    A step that has an output or is running gets a new version.
    """
    for step in again:
        is_first = step.pk == first.pk
        columns: dict[str, object] = {**FRESH, **NO_OUTPUT}
        if step.output_path is not None or step.status == StepStatus.RUNNING:
            # A worker that is still executing the old version must not store its reply for the new one.
            columns |= {"version": F("version") + 1, "review_comment": None}
        if comment is not None and is_first:
            columns["review_comment"] = comment
        if not is_first:
            columns |= {"approved_at": None, "approved_by": None}
        fence(alias, step)
        Step.objects.using(alias).filter(pk=step.pk).update(**columns)


def _replaced(kept: dict[Replaced, int | None]) -> dict[str, object]:
    """Return what the audit entry says about the replaced outputs: versions by step, and files that were not kept."""
    lost = [file.path for file, size_bytes in kept.items() if size_bytes is None]
    return {"versions": {file.step: file.version for file in kept}, **({"lost": lost} if lost else {})}
