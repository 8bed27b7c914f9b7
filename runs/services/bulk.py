"""Apply a transition to several runs of a tenant, each in its own transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from uuid import UUID

from config.base.errors import SeoGenError
from runs.errors import RunStateConflict
from runs.models import Run
from runs.services.transition import Transition
from runs.types import RunOutcome, RunsReport
from tenants.routing.context import tenant_context

# Changes one run, and returns it; raises `SeoGenError`.
Change = Callable[[str], Run]


def runs_change(*, tenant_id: str, change: Change, run_ids: Sequence[str]) -> RunsReport:
    """Change the runs that a person has named, and report each outcome; a refusal does not stop the others.

    Raises `TenantError`.
    """
    with tenant_context(tenant_id):
        outcomes = [_changed(change, run_id) for run_id in dict.fromkeys(run_ids)]
    return _report(tenant_id, outcomes, skipped=0)


def runs_change_all(*, tenant_id: str, change: Change, transition: Transition, status: str | None = None) -> RunsReport:
    """Change all of the tenant's runs, or those with `status`, whose state allows the transition, oldest first.

    Runs whose state does not allow it, or no longer allows it when they are to be changed, are counted as skipped.
    Raises `TenantError`.
    """
    with tenant_context(tenant_id) as alias:
        allowed, skipped = _candidates(alias, transition, status)
        outcomes = [_changed(change, str(pk)) for pk in allowed]
    changed = [outcome for outcome in outcomes if outcome["code"] != RunStateConflict.code]
    return _report(tenant_id, changed, skipped=skipped + len(outcomes) - len(changed))


def runs_count(*, tenant_id: str, transition: Transition, status: str | None = None) -> int:
    """Return how many runs `runs_change_all` would change. Raises `TenantError`."""
    with tenant_context(tenant_id) as alias:
        return len(_candidates(alias, transition, status)[0])


def _candidates(alias: str, transition: Transition, status: str | None) -> tuple[list[UUID], int]:
    """Return the ids of the tenant's runs whose state allows the transition, and the number of the others.

    With `status`, only runs with that status count.
    """
    runs = Run.objects.using(alias).order_by("created_at", "pk").values_list("pk", "status", "pause_cause")
    states = list(runs.filter(status=status) if status else runs)
    allowed = [pk for pk, met, cause in states if transition.allows(met, cause)]
    return allowed, len(states) - len(allowed)


def _changed(change: Change, run_id: str) -> RunOutcome:
    try:
        run = change(run_id)
    except SeoGenError as error:
        return RunOutcome(run_id=run_id, outcome="refused", status=None, code=error.code, message=str(error))
    return RunOutcome(run_id=str(run.pk), outcome="done", status=run.status, code=None, message=None)


def _report(tenant_id: str, outcomes: Iterable[RunOutcome], *, skipped: int) -> RunsReport:
    runs = list(outcomes)
    done = sum(run["outcome"] == "done" for run in runs)
    return RunsReport(tenant_id=tenant_id, runs=runs, done=done, refused=len(runs) - done, skipped=skipped)
