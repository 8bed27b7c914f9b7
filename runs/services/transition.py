"""What the transitions that people ask for have in common: the states that allow them, locks, and continuing a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from django.db.models import F
from django.db.models.functions import Now
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from audit.log.entries import record
from runs.errors import InvalidRunStep, RunStateConflict
from runs.models import WORKING, PauseCause, Run, RunStatus, Step, StepStatus
from runs.selectors import run_get
from runs.steps.claim import FENCE
from runs.steps.finish import PIPELINE
from runs.steps.wake import waiting_of, wake_on_commit
from runs.summaries.summarize import summarize_on_commit
from tenants.routing.context import current_tenant

if TYPE_CHECKING:
    from django_stubs_ext import StrPromise

NOT_PAUSED: Mapping[str, None] = {"pause_cause": None, "paused_by": None, "paused_at": None}
# The columns of a step that no worker has claimed and that starts without earlier failures.
FRESH: Mapping[str, object] = {
    "status": StepStatus.PENDING,
    "retry_count": 0,
    "lost_count": 0,
    "failing_since": None,
    "error_message": None,
    "not_before": None,
    "max_output_tokens": None,
    "lease_expires_at": None,
    "lease_owner": None,
}


@dataclass(frozen=True)
class Transition:
    """The states from which a transition may start, and the message that refuses it in any other."""

    refusal: StrPromise
    statuses: tuple[RunStatus, ...]
    # Which paused runs: only those that are waiting for a review (True), only the others (False), or all (None).
    awaits_review: bool | None = None
    # The message if it is only the review that does not allow the transition.
    review_refusal: StrPromise | None = None

    def allows(self, status: str, pause_cause: str | None) -> bool:
        if status not in self.statuses:
            return False
        if status != RunStatus.PAUSED or self.awaits_review is None:
            return True
        return (pause_cause == PauseCause.REVIEW) == self.awaits_review

    def refusal_of(self, status: str) -> StrPromise:
        return self.review_refusal if self.review_refusal and status in self.statuses else self.refusal


PAUSE = Transition(gettext_lazy("Run %(id)s cannot be paused: its status is %(status)s."), WORKING)
RESUME = Transition(
    gettext_lazy("Run %(id)s cannot be resumed: its status is %(status)s."),
    (RunStatus.PAUSED,),
    awaits_review=False,
    review_refusal=gettext_lazy("Run %(id)s cannot be resumed before its review."),
)
RETRY = Transition(gettext_lazy("Run %(id)s cannot be retried: its status is %(status)s."), (RunStatus.FAILED,))
RETRY_FROM = Transition(
    gettext_lazy("Run %(id)s cannot be retried from a step: its status is %(status)s."),
    (RunStatus.FAILED, RunStatus.PAUSED),
)
CANCEL = Transition(
    gettext_lazy("Run %(id)s cannot be cancelled: its status is %(status)s."), (*WORKING, RunStatus.PAUSED)
)
APPROVE = Transition(
    gettext_lazy("Run %(id)s cannot be approved: its status is %(status)s, and it is not waiting for a review."),
    (RunStatus.PAUSED,),
    awaits_review=True,
)
SEND_BACK = Transition(
    gettext_lazy("Run %(id)s cannot be sent back: its status is %(status)s, and it is not waiting for a review."),
    (RunStatus.PAUSED,),
    awaits_review=True,
)


def lock_run(alias: str, run_id: UUID | str, transition: Transition) -> Run:
    """Lock the run until the transaction ends, so that its state does not change after the check; return it.

    Transactions that lock a run and its steps lock the run first. Raises `UnknownRun`, or `RunStateConflict` if the
    state does not allow the transition.
    """
    known = run_get(alias=alias, run_id=run_id)
    run = Run.objects.using(alias).select_for_update().get(pk=known.pk)
    if not transition.allows(run.status, run.pause_cause):
        raise RunStateConflict(
            transition.refusal_of(run.status) % {"id": run.pk, "status": run.get_status_display()},
            status=run.status,
            hint=_possible(run),
        )
    return run


def lock_steps(alias: str, run: Run) -> list[Step]:
    """Lock the run's steps, and return them in order."""
    return list(Step.objects.using(alias).filter(run=run).order_by("position", "id").select_for_update())


def current_of(run: Run, steps: Sequence[Step]) -> Step:
    """Return the step that is next, is running or has failed; raise `InvalidRunStep` if there is none."""
    unfinished = [step for step in steps if step.status != StepStatus.COMPLETED]
    named = (step for step in unfinished if step.step == run.current_step)
    current = next(named, None) or next(iter(unfinished), None)
    if current is None:
        raise InvalidRunStep(_("Run %(id)s has no unfinished step.") % {"id": run.pk})
    return current


def fence(alias: str, step: Step) -> None:
    """Invalidate the claim of the worker that is executing the locked step, if there is one.

    A step that no worker is executing keeps its token, which shows whether it was ever claimed.
    """
    if step.status == StepStatus.RUNNING:
        Step.objects.using(alias).filter(pk=step.pk).update(lease_token=F("lease_token") + 1)


def change_run(alias: str, run: Run, **columns: object) -> None:
    """Set these columns of the locked run, and update its summary after the commit."""
    Run.objects.using(alias).filter(pk=run.pk).update(**columns)
    summarize_on_commit(alias=alias, tenant_id=current_tenant().id, run_id=run.pk)
    run.refresh_from_db(using=alias)


def continue_run(
    *, alias: str, tenant_id: str, run: Run, steps: Sequence[Step], current: Step, delay_s: float | None = None
) -> None:
    """Continue the locked run with `current`: wake a worker, or pause the run if the step needs a review first.

    `delay_s` is the time until the step is due; None if it is due now. The caller has marked the tenant as working
    before its transaction began.
    """
    if current.review and current.approved_at is None:
        change_run(alias, run, current_step=current.step, **paused(PauseCause.REVIEW, PIPELINE))
        return
    was_claimed = any(step.lease_token % FENCE for step in steps)
    status = RunStatus.RUNNING if was_claimed else RunStatus.PENDING
    change_run(alias, run, status=status, current_step=current.step, **NOT_PAUSED)
    # From now on, the sweep measures how long the wake-up goes without a claim.
    Step.objects.using(alias).filter(pk=current.pk).update(wake_after=None, wake_count=0)
    wake_on_commit(alias=alias, waiting=waiting_of(tenant_id, current), delay_s=delay_s)


def paused(cause: PauseCause, by: str) -> dict[str, object]:
    """Return the columns of a run that is paused now."""
    return {"status": RunStatus.PAUSED, "pause_cause": cause, "paused_by": by, "paused_at": Now()}


def record_change(alias: str, action: str, run: Run, **details: object) -> None:
    record(using=alias, action=action, resource_type="run", resource_id=str(run.pk), details=details)


def _possible(run: Run) -> str:
    """Return what can be done with the run instead."""
    match run.status, run.pause_cause:
        case RunStatus.PENDING | RunStatus.RUNNING, _cause:
            return _("The run can be paused or cancelled.")
        case RunStatus.PAUSED, PauseCause.REVIEW:
            return _(
                "The run is waiting for a review before step %(step)s: approve it, send it back, retry it from a step"
                " or cancel it."
            ) % {"step": run.current_step}
        case RunStatus.PAUSED, _cause:
            return _("The run can be resumed, cancelled, or retried from a step.")
        case RunStatus.FAILED, _cause:
            return _("The run can be retried.")
    return _("A completed run can no longer be changed.")
