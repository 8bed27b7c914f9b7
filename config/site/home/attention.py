"""What needs attention in the whole installation, from the control database and the cache.

Each function makes at most two queries, and counts only tenants that the person may see.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.postgres.aggregates import ArrayAgg
from django.db.models import Count, F, Max, OuterRef, Q, QuerySet, Subquery, Sum, TextField, Value, Window
from django.db.models.functions import Cast, Coalesce, Now
from django.urls import reverse
from django.utils import timezone
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from config.base.databases import CONTROL
from config.base.errors import joined
from config.site.home.sections import ROWS_MAX, Row, Section
from llm.models import LLMModel
from runs.models import PauseCause, RunStatus
from runs.summaries.models import RunSummary
from runs.workers_seen import KEPT_S, seconds_since_worker
from tenants.models import (
    OPEN,
    Backup,
    BackupKind,
    BackupStatus,
    BatchKind,
    OperationRequest,
    RequestKind,
    RequestStatus,
    Tenant,
    TenantStatus,
)
from tenants.presentation import operation_name
from tenants.requests.prompt_copies import all_visible
from tenants.restore.workflow import UNDO
from tenants.routing.site_urls import tenant_url
from tenants.schema.releases import SchemaState, release
from tenants.selectors import batches_unfinished, operations_unfinished
from tenants.transfer.new_tenant import CLONE

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

# The kinds of request whose operation is recorded under another kind.
BEGUN_AS: dict[str, str] = {RequestKind.UNDO: UNDO, RequestKind.COPY: CLONE}
# A run that failed longer ago than this no longer needs attention.
FAILED_FOR = timedelta(days=7)
# A backup is overdue after this time: with daily backups, and without them.
OVERDUE_DAILY = timedelta(hours=26)
OVERDUE = timedelta(days=7)
# Workers report every few seconds, so one that is silent for this long is not running.
WORKER_LATE_S = 60.0
RETIRES_WITHIN = timedelta(days=90)
REVIEW = Q(status=RunStatus.PAUSED, pause_cause=PauseCause.REVIEW)
CAUSES: dict[str | None, _StrPromise] = {
    PauseCause.PERSON: gettext_lazy("Paused by a person."),
    PauseCause.HOLD: gettext_lazy("Created on hold."),
    PauseCause.BUDGET: gettext_lazy("The budget does not allow the next call."),
}


def run_sections(visible: QuerySet[Tenant]) -> list[Section]:
    """Return two sections: runs that failed recently or are paused (not for review), and those waiting for review."""
    summaries = RunSummary.objects.using(CONTROL).filter(tenant__in=visible)
    failed = Q(status=RunStatus.FAILED, updated_at__gte=Now() - FAILED_FOR)
    paused = Q(status=RunStatus.PAUSED) & (Q(pause_cause__isnull=True) | ~Q(pause_cause=PauseCause.REVIEW))
    stopped = _counted(summaries.filter(failed | paused)).order_by("-updated_at", "run_id")[:ROWS_MAX]
    # Those that have waited longest come first.
    reviews = _counted(summaries.filter(REVIEW)).order_by("updated_at", "run_id")[:ROWS_MAX]
    found = sorted(stopped.union(reviews, all=True), key=lambda run: run.updated_at)
    waiting = [_run_row(run) for run in found if run.pause_cause == PauseCause.REVIEW]
    others = [_run_row(run) for run in reversed(found) if run.pause_cause != PauseCause.REVIEW]
    return [
        _section(
            "stopped",
            _("Runs that failed or are paused"),
            _("No run has failed recently or is paused, except for review."),
            others,
        ),
        _section("reviews", _("Runs waiting for review"), _("No run is waiting for review."), waiting),
    ]


def fleet_totals(visible: QuerySet[Tenant]) -> list[dict[str, Any]]:
    """Return, by schema version, the number of tenants, the sum of their monthly budgets, and which have drifted."""
    drifted = Q(schema_drift__isnull=False) & ~Q(schema_drift=[])
    totals = visible.order_by().values("schema_version")
    counted = totals.annotate(
        count=Count("pk"), drifted=ArrayAgg("pk", filter=drifted), budget=Sum("monthly_budget_usd")
    )
    return [dict(one) for one in counted]


def operations_section(visible: QuerySet[Tenant], *, sees_batches: bool, sees_requests: bool) -> Section:
    """Return the section with the operations that are waiting, are running or were interrupted.

    It includes those of the whole fleet only with `sees_batches`, and requests by staff only with `sees_requests`.
    """
    columns = ("key", "kind", "about", "user_id", "error", "started_at", "state")
    fleet = Q(tenant_id="") if sees_batches else Q()
    of_visible = Q(tenant_id__in=visible.values("pk")) | fleet
    no_state = Value("", output_field=TextField())
    alone = (
        operations_unfinished()
        .filter(tenant_id__in=visible.values("pk"))
        .order_by()
        .values_list(
            Value("", output_field=TextField()), "kind", "tenant_id", "user_id", "error", "started_at", no_state
        )
    )
    batches = (
        batches_unfinished()
        .filter(of_visible)
        .order_by()
        .values_list(Cast("pk", TextField()), "kind", "tenant_id", "user_id", "error", "started_at", no_state)
    )
    requests = (
        OperationRequest.objects.using(CONTROL)
        .filter(of_visible, status__in=(*OPEN, RequestStatus.UNFINISHED))
        .filter(Q() if sees_batches else all_visible(visible))
        .order_by()
        .values_list(
            Cast("pk", TextField()),
            "kind",
            "tenant_id",
            "requested_by",
            "error",
            Coalesce("started_at", "requested_at"),
            "status",
        )
    )
    parts = (batches, requests) if sees_requests else (batches,)
    found = [dict(zip(columns, values, strict=True)) for values in alone.union(*parts, all=True)]
    requested = {(one["about"], BEGUN_AS.get(one["kind"], one["kind"])) for one in found if one["state"]}
    # A request's own page says more than that of the operation that it began.
    found = [one for one in found if one["state"] or (one["about"], one["kind"]) not in requested]
    found.sort(key=lambda one: one["started_at"])
    rows = [(_operation_row(**one), len(found)) for one in found[:ROWS_MAX]]
    return _section("operations", _("Unfinished operations"), _("No operation is unfinished."), rows)


def schema_section(totals: list[dict[str, Any]]) -> Section:
    """Return the section with the tenants whose schema drifted, and the number of tenants that are behind this release.

    `totals` is the result of `fleet_totals`.
    """
    code = release()
    page = reverse("admin:tenants_tenantschema_changelist")
    rows = [
        Row(
            text=tenant_id,
            url=reverse("admin:tenants_tenantschema_change", args=[tenant_id]),
            badge=_("drift"),
            color="danger",
            detail=_("Its schema differs from what its migrations create."),
        )
        for one in totals
        for tenant_id in one["drifted"] or []
    ]
    behind = sum(one["count"] for one in totals if code.state_of(one["schema_version"]) == SchemaState.BEHIND)
    if behind:
        text = ngettext("%(count)d tenant is behind this release", "%(count)d tenants are behind this release", behind)
        rows.insert(0, Row(text % {"count": behind}, f"{page}?state=behind", _("behind"), "warning"))
    counted = [(row, len(rows)) for row in rows[:ROWS_MAX]]
    empty = _("No schema is behind this release or known to have drifted.")
    return _section("schema", _("Fleet"), empty, counted, page)


def backups_section(visible: QuerySet[Tenant]) -> Section:
    """Return the section with the active tenants without a recent backup, the longest overdue first.

    A new tenant is not overdue yet.
    """
    since = OVERDUE_DAILY if settings.BACKUP_DAILY_OUTPUT else OVERDUE
    newest = (
        Backup.objects.using(CONTROL)
        .filter(tenant_id=OuterRef("pk"), status=BackupStatus.COMPLETED, kind=BackupKind.BACKUP)
        .order_by()
        .values("tenant_id")
        .annotate(newest=Max("started_at"))
        .values("newest")
    )
    overdue = (
        visible.select_related(None)
        .only("name")
        .filter(status=TenantStatus.ACTIVE, created_at__lt=Now() - since)
        .annotate(backed_up_at=Subquery(newest))
        .filter(Q(backed_up_at__isnull=True) | Q(backed_up_at__lt=Now() - since))
        .order_by(F("backed_up_at").asc(nulls_first=True), "pk")
    )
    rows = [(_backup_row(tenant), vars(tenant)["total"]) for tenant in _counted(overdue)[:ROWS_MAX]]
    page = reverse("admin:tenants_backup_changelist")
    return _section("backups", _("Backups overdue"), _("No backup of an active tenant is overdue."), rows, page)


def models_section() -> Section:
    """Return the section with the active models that are deprecated or retire in at most 90 days, earliest first."""
    soon = timezone.localdate() + RETIRES_WITHIN
    retiring = LLMModel.objects.using(CONTROL).filter(Q(is_deprecated=True) | Q(retires_on__lte=soon), is_active=True)
    found = retiring.order_by(F("retires_on").asc(nulls_last=True), "provider_id", "model_name")
    rows = [(_model_row(model), vars(model)["total"]) for model in _counted(found)[:ROWS_MAX]]
    page = reverse("admin:llm_llmmodel_changelist")
    empty = _("No active model is deprecated or retires within 90 days.")
    return _section("models", _("Retiring models"), empty, rows, page)


def queue_facts(visible: QuerySet[Tenant]) -> dict[str, Any]:
    """Return the numbers of pending and running runs, and when a worker was last seen.

    "worker" is a sentence, and "is_late" whether that was too long ago or is not known.
    """
    working = RunSummary.objects.using(CONTROL).filter(
        tenant__in=visible, status__in=(RunStatus.PENDING, RunStatus.RUNNING)
    )
    counts = dict(working.order_by().values_list("status").annotate(count=Count("run_id")))
    seconds = seconds_since_worker()
    return {
        "pending": counts.get(RunStatus.PENDING, 0),
        "running": counts.get(RunStatus.RUNNING, 0),
        "worker": _worker_sentence(seconds),
        "is_late": seconds is None or seconds > WORKER_LATE_S,
    }


def _worker_sentence(seconds: float | None) -> str:
    if seconds is None:
        return _("The cache cannot be read, so it is unknown when a worker was last seen.")
    if seconds >= KEPT_S:
        return _("No worker is known to have run in the last day.")
    if seconds > WORKER_LATE_S:
        minutes = round(seconds / 60)
        return ngettext(
            "A worker was last seen %(minutes)d minute ago.", "A worker was last seen %(minutes)d minutes ago.", minutes
        ) % {"minutes": minutes}
    return _("A worker was seen within the last minute.")


def _counted(found: QuerySet[Any]) -> QuerySet[Any]:
    """Annotate each row with the number of all rows, so that a limited list needs no second query."""
    counted: QuerySet[Any] = found.annotate(total=Window(Count(Value(1))))
    return counted


def _section(key: str, title: str, empty: str, rows: list[tuple[Row, int]], more_url: str = "") -> Section:
    total = rows[0][1] if rows else 0
    return Section(key, title, empty, [row for row, _total in rows], total, more_url)


def _run_row(run: Any) -> tuple[Row, int]:
    failed = run.status == RunStatus.FAILED
    where = run.error_step or run.current_step or ""
    if run.pause_cause == PauseCause.REVIEW and run.current_step:
        detail = _("Waiting for review before step %(step)s.") % {"step": run.current_step}
    elif failed and run.error:
        detail = f"{where}: {run.error}"
    else:
        detail = str(CAUSES.get(run.pause_cause, where))
    row = Row(
        text=str(run.run_id)[:8],
        url=tenant_url(run.tenant_id, "admin:runs_run_change", run.run_id),
        badge=str(RunStatus(run.status).label),
        color="danger" if failed else "warning",
        tenant=run.tenant_id,
        detail=detail,
        at=run.updated_at,
    )
    return row, run.total


def _operation_row(*, key: str, kind: str, about: str, user_id: str, error: str, started_at: Any, state: str) -> Row:
    name, badge, color = operation_name(kind), "", ""
    if state:
        name, badge = capfirst(str(RequestKind(kind).label)), str(RequestStatus(state).label)
        colors = {RequestStatus.UNFINISHED: "danger", RequestStatus.REQUESTED: "default"}
        color = colors.get(RequestStatus(state), "info")
        url = reverse("admin:tenants_operationrequest_change", args=[key])
    elif key:
        url = reverse("admin:tenants_migrationbatch_change", args=[key])
    else:
        url = reverse("admin:tenants_tenant_change", args=[about])
    # No one has started what is still waiting.
    words = _("Requested by %(user)s.") if state == RequestStatus.REQUESTED else _("Started by %(user)s.")
    by = words % {"user": user_id.removeprefix("staff:")}
    detail = joined(error, by)
    # A copy of prompts concerns several tenants, but not necessarily all.
    several = _("all tenants") if kind == BatchKind.MIGRATE else ""
    return Row(name, url, badge, color, tenant=about or several, detail=detail, at=started_at)


def _backup_row(tenant: Any) -> Row:
    url = f"{reverse('admin:tenants_backup_changelist')}?q={tenant.pk}"
    never = _("There is no completed backup.")
    detail = never if tenant.backed_up_at is None else _("The last backup is too old.")
    return Row(tenant.name, url, tenant=tenant.pk, detail=detail, at=tenant.backed_up_at)


def _model_row(model: Any) -> Row:
    if model.retires_on is None:
        detail = _("The provider is retiring it or has retired it; no date is entered here.")
    else:
        detail = _("Its retirement date is %(day)s.") % {"day": model.retires_on.isoformat()}
    return Row(str(model), reverse("admin:llm_llmmodel_change", args=[model.pk]), detail=detail)
