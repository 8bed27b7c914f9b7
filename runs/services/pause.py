"""Pause a run: no call to a provider begins until it is resumed."""

from uuid import UUID

from django.db import transaction

from audit.log.actor import current_actor
from runs.models import PauseCause, Run
from runs.services.transition import PAUSE, change_run, lock_run, paused, record_change
from tenants.routing.context import tenant_context


def run_pause(*, tenant_id: str, run_id: UUID | str) -> Run:
    """Pause a pending or running run, and return it.

    No call begins after the commit. A call that is in progress is not interrupted. If it succeeds, its output is kept,
    and the run stays paused before its next step, or is completed if there is none. If it fails for good, so does the
    run. Raises `TenantError`, `UnknownRun` or `RunStateConflict`.
    """
    with tenant_context(tenant_id) as alias, transaction.atomic(using=alias):
        run = lock_run(alias, run_id, PAUSE)
        change_run(alias, run, **paused(PauseCause.PERSON, current_actor().user_id))
        record_change(alias, "run.pause", run, cause=str(PauseCause.PERSON), step=run.current_step)
    return run
