"""End a run before it is completed."""

from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext as _

from audit.log.actor import current_actor
from runs.models import Run, RunStatus, Step, StepStatus
from runs.services.transition import (
    CANCEL,
    NOT_PAUSED,
    change_run,
    current_of,
    fence,
    lock_run,
    lock_steps,
    record_change,
)
from tenants.lifecycle.work_mark import mark_working
from tenants.routing.context import tenant_context


def run_cancel(*, tenant_id: str, run_id: UUID | str) -> Run:
    """Fail a run that has not ended, and return it.

    A call that is in progress is abandoned: its worker may no longer change the step, but its cost is kept. The run can
    be retried. Raises `TenantError`, `UnknownRun`, `InvalidRunStep` or `RunStateConflict`.
    """
    with tenant_context(tenant_id) as alias:
        # If this process dies after the commit, the sweep brings the run's summary up to date.
        mark_working(tenant_id)
        with transaction.atomic(using=alias):
            run = lock_run(alias, run_id, CANCEL)
            met, current = run.status, current_of(run, lock_steps(alias, run))
            fence(alias, current)
            Step.objects.using(alias).filter(pk=current.pk).update(
                status=StepStatus.FAILED,
                error_message=_("Cancelled by %(actor)s.") % {"actor": current_actor().user_id},
                not_before=None,
                lease_expires_at=None,
                lease_owner=None,
            )
            change_run(alias, run, status=RunStatus.FAILED, current_step=current.step, **NOT_PAUSED)
            record_change(alias, "run.cancel", run, status=met, step=current.step)
    return run
