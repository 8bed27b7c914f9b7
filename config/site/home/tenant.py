"""The first page of a tenant's site: what needs attention, numbers of runs, the month's spending, the newest runs."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db.models import Count, Exists, OuterRef, Q
from django.db.models.functions import Left, Now
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _

from config.base.output import dollars
from config.site.home.attention import CAUSES, FAILED_FOR
from config.site.home.sections import ROWS_MAX, Row, Section
from runs.admin.cells import RUN_COLORS
from runs.models import PauseCause, Run, RunStatus, Step
from runs.selectors import spending_document
from runs.summaries.rows import MAX_ERROR_CHARS
from tenants.routing.context import current_tenant

NEWEST = 8


def tenant_home(request: HttpRequest) -> dict[str, Any]:
    """Return the context of the page: the parts that the person may see."""
    home: dict[str, Any] = {"title": _("Overview")}
    if request.user.has_perm("runs.view_run"):
        home |= _runs()
    if request.user.has_perm("runs.view_runcost"):
        home["spending"] = _spending()
    return home


def _runs() -> dict[str, Any]:
    counts = dict(Run.objects.values_list("status").annotate(count=Count("pk")).order_by())
    truncated = Step.objects.filter(run=OuterRef("pk"), is_truncated=True)
    newest = Run.objects.annotate(is_truncated=Exists(truncated)).order_by("-created_at")[:NEWEST]
    return {
        "counts": [(status, counts.get(status.value, 0)) for status in RunStatus],
        "sections": _sections(),
        "runs": [(run, RUN_COLORS[RunStatus(run.status)]) for run in newest],
    }


def _sections() -> list[Section]:
    failed = Q(status=RunStatus.FAILED, updated_at__gte=Now() - FAILED_FOR)
    found = list(Run.objects.filter(failed | Q(status=RunStatus.PAUSED)).order_by("-updated_at", "pk"))
    reviews = [run for run in reversed(found) if run.pause_cause == PauseCause.REVIEW]
    stopped = [run for run in found if run.pause_cause != PauseCause.REVIEW]
    errors = _errors([run for run in stopped[:ROWS_MAX] if run.status == RunStatus.FAILED])
    runs = reverse("admin:runs_run_changelist")
    return [
        Section(
            "stopped",
            _("Runs that failed or are paused"),
            _("No run has failed recently or is paused, except for review."),
            [_row(run, errors.get(run.pk) or str(CAUSES.get(run.pause_cause, ""))) for run in stopped[:ROWS_MAX]],
            len(stopped),
            f"{runs}?status__in={RunStatus.FAILED},{RunStatus.PAUSED}",
        ),
        Section(
            "reviews",
            _("Runs waiting for review"),
            _("No run is waiting for review."),
            [_row(run, _waits_before(run)) for run in reviews[:ROWS_MAX]],
            len(reviews),
            f"{runs}?pause_cause__exact={PauseCause.REVIEW}",
        ),
    ]


def _errors(runs: list[Run]) -> dict[Any, str]:
    """Return {run id: the failed step and the beginning of its error message}."""
    steps = Step.objects.filter(run__in=runs, error_message__isnull=False)
    named = steps.annotate(message=Left("error_message", MAX_ERROR_CHARS)).values_list("run", "step", "message")
    return {run: f"{step}: {message}" for run, step, message in named.order_by("position")}


def _waits_before(run: Run) -> str:
    return _("Waiting for review before step %(step)s.") % {"step": run.current_step} if run.current_step else ""


def _row(run: Run, detail: str) -> Row:
    keyword = run.config.get("keyword") if isinstance(run.config, dict) else None
    status = RunStatus(run.status)
    url = reverse("admin:runs_run_change", args=[run.pk])
    return Row(str(keyword or run.pk), url, str(status.label), RUN_COLORS[status], detail=detail, at=run.updated_at)


def _spending() -> dict[str, Any]:
    """Return what this month has cost or may still cost, and how much of the budget that is.

    "percent" is at most 100, and 100 without a budget or if the budget is 0.
    """
    tenant = current_tenant()
    spent = spending_document(tenant_id=tenant.id)
    used = sum((Decimal(str(spent[name])) for name in ("spent_usd", "reserved_usd", "possible_usd")), Decimal(0))
    budget = tenant.monthly_budget_usd
    percent = min(100, round(used * 100 / budget)) if budget else 100
    return {
        "used": dollars(used),
        "budget": None if budget is None else dollars(budget),
        "percent": percent,
        "is_short": budget is not None and percent >= settings.BUDGET_WARNING_PERCENT,
        "is_used_up": budget is not None and used >= budget,
    }
