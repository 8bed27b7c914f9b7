"""The part of a run's page that follows the run: what it is doing, what it waits for, and what can be done."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.translation import gettext as _

from runs.admin.cells import (
    RUN_COLORS,
    cost_of,
    count,
    elapsed,
    file_name_of,
    input_of,
    language_name,
    money,
    replaced_version,
    size_of,
    step_badge,
)
from runs.models import WORKING, Artifact, Call, PauseCause, Run, RunStatus, Step, StepCost, StepStatus
from runs.output import ARTICLE
from runs.presentation.timeline import moment, timeline
from runs.presentation.waiting import waiting_text
from runs.selectors import run_snapshot
from runs.summaries.rows import ENDED
from runs.waiting import wait_of
from tenants.routing.context import current_alias, current_tenant
from tenants.routing.site_urls import control_url

# Seconds between two polls. A paused run waits for a person, so it is polled less often.
WORKING_S, PAUSED_S = 3, 10


def live_response(request: HttpRequest, run_id: object, actions: Sequence[Any]) -> HttpResponse:
    """Answer a poll with the fragment. A poll is not recorded as a read, since opening the page was recorded."""
    context = live_context(run_id, actions)
    if context is None:
        raise Http404
    response = HttpResponse(render_to_string("admin/run_live.html", context, request))
    response["Cache-Control"] = "no-store"
    return response


def live_context(run_id: object, actions: Sequence[Any]) -> dict[str, Any] | None:
    """Return what the fragment shows; None if the active tenant has no such run. `actions` are those to offer."""
    alias = current_alias()
    run = run_snapshot(alias=alias, run_id=str(run_id))
    if run is None:
        return None
    now: datetime = vars(run)["read_at"]
    steps = list(Step.objects.using(alias).filter(run=run).order_by("position", "id"))
    calls = Call.objects.using(alias).filter(run=run).order_by("id")
    costs = StepCost.objects.using(alias).filter(run=run).in_bulk()
    wait = wait_of(tenant_id=current_tenant().id, run=run, steps=steps, now=now)
    cost = cost_of(run)
    files = list(Artifact.objects.using(alias).filter(run=run).order_by("id"))
    return {
        "run": run,
        "keyword": input_of(run, "keyword") or str(run.pk),
        "language": language_name(input_of(run, "language")),
        "status": run.get_status_display(),
        "color": RUN_COLORS[RunStatus(run.status)],
        "is_truncated": any(step.is_truncated for step in steps),
        "waiting": waiting_text(wait, now=now.isoformat()) if wait else None,
        "problem": _problem(run, steps),
        "advice": _advice(run, steps),
        "progress": (sum(step.status == StepStatus.COMPLETED for step in steps), len(steps)),
        "started": moment(run.created_at),
        "elapsed": elapsed(run, now),
        "cost": money(cost.total_llm_cost, cost.unpriced_steps, cost.unknown_calls) if cost else None,
        "tokens_in": count(cost.total_input_tokens) if cost else None,
        "tokens_out": count(cost.total_output_tokens) if cost else None,
        "steps": [
            (entry, step_badge(entry.step)) for entry in timeline(steps=steps, calls=calls, costs=costs, now=now)
        ],
        "article": next((one for one in reversed(files) if _is_article(one)), None),
        "files": [(one, file_name_of(one), replaced_version(one), size_of(one)) for one in files],
        "actions": actions,
        "poll_s": None if run.status in ENDED else WORKING_S if run.status in WORKING else PAUSED_S,
        "live_url": reverse("admin:runs_run_live", args=[run.pk]),
        "budget_url": _budget_url(run),
    }


def _problem(run: Run, steps: Sequence[Step]) -> str | None:
    """Return the error of the run's current step, such as why the run failed; None if nothing is wrong."""
    failing = (step for step in steps if step.step == run.current_step and step.error_message)
    step = next(failing, None)
    if step is None or run.status == RunStatus.COMPLETED:
        return None
    if step.status == StepStatus.COMPLETED:
        return None
    return _("%(step)s: %(error)s") % {"step": step.step, "error": step.error_message}


def _advice(run: Run, steps: Sequence[Step]) -> str:
    """Return what a person can do so that the run continues; "" if no one has to act."""
    match run.status, run.pause_cause:
        case RunStatus.FAILED, _cause:
            return _("If an error was the cause, correct it. A retry continues with the step that failed.")
        case RunStatus.PAUSED, PauseCause.REVIEW if not any(step.status == StepStatus.COMPLETED for step in steps):
            return _("Approve the run to let it begin.")
        case RunStatus.PAUSED, PauseCause.REVIEW:
            return _("Read the texts, then approve the run or send it back.")
        case RunStatus.PAUSED, PauseCause.BUDGET:
            return _("Raise the budget or, if a price is missing, enter it; then resume the run.")
        case RunStatus.PAUSED, _cause:
            return _("Resume the run to let it continue.")
    return ""


def _is_article(artifact: Artifact) -> bool:
    return file_name_of(artifact) == ARTICLE and replaced_version(artifact) is None


def _budget_url(run: Run) -> str | None:
    """Return the URL of the page that sets the tenant's budgets; None unless the run waits for a budget."""
    if run.pause_cause != PauseCause.BUDGET:
        return None
    return control_url("admin:tenants_tenant_change", current_tenant().id)
