"""Continue a failed run, or run a part of it again."""

from collections.abc import Sequence
from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext as _

from prompts.validation import shown
from runs.errors import InvalidRunStep
from runs.models import Run, Step
from runs.services.rerun import rerun
from runs.services.transition import (
    FRESH,
    RETRY,
    RETRY_FROM,
    continue_run,
    current_of,
    fence,
    lock_run,
    lock_steps,
    record_change,
)
from tenants.lifecycle.work_mark import mark_working
from tenants.routing.context import tenant_context


def run_retry(*, tenant_id: str, run_id: UUID | str, from_step: str | None = None) -> Run:
    """Continue a failed run with the step that failed, whose earlier failures no longer count; return the run.

    With `from_step`, run that step and all later ones again, even if the run is paused; completed steps before it are
    kept, and so are the outputs that are replaced (`runs.services.rerun`). Raises `TenantError`, `UnknownRun`,
    `RunStateConflict`, `InvalidRunStep` if there is no such step or the run has not reached it, or `StorageError`.
    """
    if from_step is None:
        return _retry_failed_step(tenant_id, run_id)
    return rerun(
        tenant_id=tenant_id,
        run_id=run_id,
        transition=RETRY_FROM,
        action="run.retry",
        choose=lambda _alias, run, steps: reached_step(run, steps, from_step),
    )


def reached_step(run: Run, steps: Sequence[Step], name: str) -> Step:
    """Return the step called `name`; raise `InvalidRunStep` if there is none or the run has not reached it."""
    step = next((step for step in steps if step.step == name), None)
    if step is None:
        raise InvalidRunStep(
            _("Run %(id)s has no step %(step)s. Its steps are: %(known)s.")
            % {"id": run.pk, "step": shown(name), "known": ", ".join(step.step for step in steps)}
        )
    if step.position > current_of(run, steps).position:
        raise InvalidRunStep(_("Run %(id)s has not reached step %(step)s yet.") % {"id": run.pk, "step": step.step})
    return step


def _retry_failed_step(tenant_id: str, run_id: UUID | str) -> Run:
    with tenant_context(tenant_id) as alias:
        mark_working(tenant_id)
        with transaction.atomic(using=alias):
            run = lock_run(alias, run_id, RETRY)
            steps = lock_steps(alias, run)
            failed = current_of(run, steps)
            fence(alias, failed)
            Step.objects.using(alias).filter(pk=failed.pk).update(**FRESH)
            continue_run(alias=alias, tenant_id=tenant_id, run=run, steps=steps, current=failed)
            attempts = failed.retry_count + failed.lost_count
            record_change(alias, "run.retry", run, step=failed.step, attempts=attempts, status=run.status)
    return run
