"""Find out why a run is waiting."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from runs.models import WORKING, PauseCause, Run, RunStatus, Step, StepStatus
from runs.turns import why
from runs.types import WaitDocument, WaitReason
from runs.workers_seen import KEPT_S, seconds_since_worker

PAUSED: dict[str | None, WaitReason] = {
    PauseCause.HOLD: "hold",
    PauseCause.REVIEW: "review",
    PauseCause.BUDGET: "budget",
}


def wait_of(*, tenant_id: str, run: Run, steps: Sequence[Step], now: datetime) -> WaitDocument | None:
    """Return why the run is waiting; None if it has ended, or if a worker is executing its step.

    `now` is the time of the tenant's database when the run was read.
    """
    current = next((step for step in steps if step.step == run.current_step), None)
    if run.status == RunStatus.PAUSED:
        reason = PAUSED.get(run.pause_cause, "paused")
        error = current.error_message if current and reason == "budget" else None
        return _document(reason, step=run.current_step, by=run.paused_by, since=run.paused_at, error=error)
    if run.status not in WORKING or current is None:
        return None
    if current.status == StepStatus.RUNNING:
        return _of_running(current, now)
    if current.status != StepStatus.PENDING:
        # It ended after the run was read.
        return None
    if current.not_before is not None and current.not_before > now:
        return _document("retry", step=current.step, until=current.not_before, error=current.error_message)
    return _of_turn(tenant_id, run, current) or _of_worker(current, now)


def _of_running(step: Step, now: datetime) -> WaitDocument | None:
    if step.lease_expires_at is None or step.lease_expires_at > now:
        return None
    return _document("lost worker", step=step.step, since=step.lease_expires_at)


def _of_turn(tenant_id: str, run: Run, step: Step) -> WaitDocument | None:
    """Return why the due step has no turn yet; None if its turn has come, or if that is not known."""
    found = why(tenant_id, str(run.pk), step.step, f"{step.llm_provider}/{step.llm_model}")
    if found is None or (found.kind == "turn" and found.position == 1):
        return None
    return _document(found.kind, step=step.step, route=found.route, position=found.position, until=found.until)


def _of_worker(step: Step, now: datetime) -> WaitDocument:
    ago_s = seconds_since_worker()
    if ago_s is None:
        return _document("worker", step=step.step)
    if ago_s >= KEPT_S:
        return _document("no worker", step=step.step)
    return _document("worker", step=step.step, worker_seen_at=now - timedelta(seconds=ago_s))


def _document(
    reason: WaitReason,
    *,
    step: str | None,
    by: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    error: str | None = None,
    worker_seen_at: datetime | None = None,
    route: str | None = None,
    position: int | None = None,
) -> WaitDocument:
    return WaitDocument(
        reason=reason,
        step=step,
        by=by,
        since=_iso(since),
        until=_iso(until),
        error=error,
        worker_seen_at=_iso(worker_seen_at),
        route=route,
        position=position,
    )


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
