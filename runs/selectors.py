"""Read runs, and build the documents that commands show."""

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

from django.db.models import Count, Exists, F, IntegerField, OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Left, Now
from django.utils.translation import gettext as _

from config.base.databases import CONTROL
from llm.prices.cache_saving import cache_saving
from runs.errors import UnknownRun
from runs.models import Artifact, Call, CallStatus, Run, RunCost, RunStatus, Spending, Step
from runs.summaries.models import RunSummary
from runs.summaries.rows import ENDED, MAX_ERROR_CHARS
from runs.types import (
    ArtifactDocument,
    CallsDocument,
    CostDocument,
    ListedRun,
    RunDocument,
    SpendingDocument,
    StepDocument,
)
from runs.waiting import wait_of
from tenants.models import TenantStatus
from tenants.routing.context import tenant_context

# Tenants with these statuses are left out of lists: they are being created or deleted, or are deleted.
UNUSED = (TenantStatus.PROVISIONING, TenantStatus.DELETING, TenantStatus.DELETED)
# {step's primary key: {call's status: number}}
Calls = Mapping[int, Mapping[str, int]]


def run_get(*, alias: str, run_id: UUID | str) -> Run:
    """Return the run; raise `UnknownRun` if the tenant has none with this id."""
    return _found(Run.objects.using(alias), run_id)


def run_snapshot(*, alias: str, run_id: UUID | str) -> Run | None:
    """Return the run with its cost, and the database's time as `read_at`; None if the tenant has none with this id."""
    try:
        return _found(Run.objects.using(alias).annotate(read_at=Now()).prefetch_related("cost"), run_id)
    except UnknownRun:
        return None


def run_list(
    *,
    alias: str,
    tenant_id: str,
    statuses: Collection[str] = (),
    series_id: str | None = None,
    limit: int | None = None,
) -> list[ListedRun]:
    """Return the tenant's newest runs, at most `limit`, as lists show them.

    `statuses` keeps only runs with one of these statuses, `series_id` only runs of this series.
    """
    runs = Run.objects.using(alias).order_by("-created_at", "id")
    runs = runs.filter(status__in=statuses) if statuses else runs
    runs = runs.filter(config__series_id=series_id) if series_id else runs
    return [_listed(tenant_id, run) for run in _with_steps(runs)[:limit]]


def run_list_all_tenants(*, statuses: Collection[str] = (), limit: int | None = None) -> list[ListedRun]:
    """Return the most recently changed runs of all tenants, at most `limit`, from the control database's summaries.

    `statuses` keeps only runs with one of these statuses. Tenants that are being created or deleted, or are deleted,
    are left out. No tenant's database is opened.
    """
    summaries = RunSummary.objects.using(CONTROL).exclude(tenant__status__in=UNUSED)
    summaries = summaries.filter(status__in=statuses) if statuses else summaries
    newest = summaries.order_by("-updated_at", "run_id").annotate(read_at=Now())
    return [_listed_summary(summary) for summary in newest[:limit]]


def run_document(*, tenant_id: str, run_id: UUID | str) -> RunDocument:
    """Return a run's document: status, steps in order, cost and artifacts; of files, only paths and digests.

    Raises `TenantError` or `UnknownRun`.
    """
    with tenant_context(tenant_id) as alias:
        # The run comes first: if it has ended by then, nothing that is read afterwards changes any more.
        run = _found(Run.objects.using(alias).annotate(read_at=Now()), run_id)
        steps = list(Step.objects.using(alias).filter(run=run).order_by("position", "id"))
        calls = _calls(alias, run)
        truncated = {step.step for step in steps if step.is_truncated}
        artifacts = Artifact.objects.using(alias).filter(run=run).order_by("id")
        return RunDocument(
            tenant_id=tenant_id,
            id=str(run.pk),
            status=run.status,
            current_step=run.current_step,
            config=run.config,
            created_at=run.created_at.isoformat(),
            updated_at=run.updated_at.isoformat(),
            started_at=_iso(min((step.started_at for step in steps if step.started_at), default=None)),
            ended_at=_ended_at(run),
            read_at=vars(run)["read_at"].isoformat(),
            waiting=wait_of(tenant_id=tenant_id, run=run, steps=steps, now=vars(run)["read_at"]),
            is_truncated=bool(truncated),
            steps=[_step_document(step, calls.get(step.pk, {})) for step in steps],
            cost=cost_document(RunCost.objects.using(alias).filter(run=run).first(), steps, calls),
            artifacts=[_artifact_document(artifact, truncated) for artifact in artifacts],
        )


def cost_document(cost: RunCost | None, steps: Collection[Step], calls: Calls) -> CostDocument:
    """Return a run's cost from all its `steps` and `calls`. `cost` is None for a run without steps."""
    known = cost.total_llm_cost if cost else None
    if known is None and _nothing_was_paid(cost, steps):
        known = Decimal(0)
    limit = cost.unknown_cost_limit if cost else None
    saving = cache_saving_of(steps)
    unpriced = [step for step in steps if calls.get(step.pk, {}).get(CallStatus.UNKNOWN) and not _has_prices(step)]
    return CostDocument(
        total_llm_cost=round(float(known), 9) if known is not None else None,
        exact_llm_cost=f"{known.normalize():f}" if known is not None else None,
        total_input_tokens=cost.total_input_tokens if cost else None,
        total_output_tokens=cost.total_output_tokens if cost else None,
        tokens_by_unit=cost.tokens_by_unit if cost else {},
        unpriced_tokens=(cost.unpriced_tokens if cost else None) or {},
        unpriced_steps=cost.unpriced_steps if cost else 0,
        cache_saving=f"{saving.normalize():f}" if saving is not None else None,
        unknown_calls=cost.unknown_calls if cost else 0,
        unknown_cost_limit=round(float(limit), 9) if limit is not None and not unpriced else None,
    )


def cache_saving_of(steps: Iterable[Step]) -> Decimal | None:
    """Return the USD that the provider's cache saved in these steps; None if nothing was cached."""
    savings = [cache_saving(step.token_usage or {}, step.prices or {}) for step in steps]
    known = [saving for saving in savings if saving is not None]
    return sum(known, Decimal(0)) if known else None


def _found(runs: QuerySet[Run], run_id: UUID | str) -> Run:
    try:
        run = runs.filter(pk=UUID(str(run_id))).first()
    except ValueError:
        run = None
    if run is None:
        raise UnknownRun(
            _("There is no run %(id)s.") % {"id": repr(str(run_id))[:60]},
            hint=_("List the tenant's runs with `seo-gen run list`."),
            page_hint=_("“Runs” lists the tenant's runs."),
        )
    return run


def _with_steps(runs: QuerySet[Run]) -> QuerySet[Run]:
    """Annotate the runs with what lists show about their steps."""
    steps = Step.objects.using(runs.db).filter(run=OuterRef("pk")).order_by()
    current = steps.filter(step=OuterRef("current_step"), error_message__isnull=False)
    retries = steps.values("run").annotate(total=Sum(F("retry_count") + F("lost_count"))).values("total")
    return runs.annotate(
        read_at=Now(),
        error_step=Subquery(current.values("step")),
        error=Subquery(current.values(message=Left("error_message", MAX_ERROR_CHARS))),
        retries=Subquery(retries, output_field=IntegerField()),
        is_truncated=Exists(steps.filter(is_truncated=True)),
    )


def _listed(tenant_id: str, run: Run) -> ListedRun:
    found = vars(run)
    since = run.updated_at if run.status in ENDED else run.paused_at or run.created_at
    return ListedRun(
        tenant_id=tenant_id,
        id=str(run.pk),
        status=run.status,
        pause_cause=run.pause_cause,
        current_step=run.current_step,
        keyword=run.config.get("keyword") if isinstance(run.config, dict) else None,
        error_step=found["error_step"],
        error=found["error"],
        retries=found["retries"] or 0,
        is_truncated=found["is_truncated"],
        created_at=run.created_at.isoformat(),
        updated_at=run.updated_at.isoformat(),
        ended_at=_ended_at(run),
        age_s=_seconds(since, found["read_at"]),
    )


def _listed_summary(run: RunSummary) -> ListedRun:
    since = run.updated_at if run.status in (*ENDED, RunStatus.PAUSED) else run.created_at
    return ListedRun(
        tenant_id=run.tenant_id,
        id=str(run.run_id),
        status=run.status,
        pause_cause=run.pause_cause,
        current_step=run.current_step,
        keyword=None,
        error_step=run.error_step,
        error=run.error,
        retries=None,
        is_truncated=run.is_truncated,
        created_at=run.created_at.isoformat(),
        updated_at=run.updated_at.isoformat(),
        ended_at=_iso(run.ended_at),
        age_s=_seconds(since, vars(run)["read_at"]),
    )


def spending_document(*, tenant_id: str) -> SpendingDocument:
    """Return what the calls of a tenant, active or suspended, cost this month (UTC). Raises `TenantError`."""
    with tenant_context(tenant_id, statuses=(TenantStatus.ACTIVE, TenantStatus.SUSPENDED)) as alias:
        month = datetime.now(UTC).date().replace(day=1)
        row = Spending.objects.using(alias).filter(month=month).first() or Spending(
            month=month, spent_usd=Decimal(0), reserved_usd=Decimal(0), possible_usd=Decimal(0), unpriced_calls=0
        )
    return SpendingDocument(
        month=f"{month:%Y-%m}",
        spent_usd=float(row.spent_usd),
        reserved_usd=float(row.reserved_usd),
        possible_usd=float(row.possible_usd),
        unpriced_calls=row.unpriced_calls,
        warned_at=_iso(row.warned_at),
    )


def _step_document(step: Step, calls: Mapping[str, int]) -> StepDocument:
    took = step.completed_at - step.started_at if step.completed_at and step.started_at else None
    return StepDocument(
        step=step.step,
        status=step.status,
        llm_provider=step.llm_provider,
        llm_model=step.llm_model,
        rerouted=step.rerouted,
        token_usage=step.token_usage,
        retry_count=step.retry_count,
        lost_count=step.lost_count,
        attempt=step.retry_count + step.lost_count + 1,
        version=step.version,
        error_message=step.error_message,
        started_at=_iso(step.started_at),
        completed_at=_iso(step.completed_at),
        seconds=round(took.total_seconds(), 3) if took else None,
        not_before=_iso(step.not_before),
        failing_since=_iso(step.failing_since),
        output_path=step.output_path,
        output_digest=step.output_digest,
        is_truncated=step.is_truncated,
        summary=step.summary,
        metrics=step.metrics,
        calls=CallsDocument(
            count=sum(calls.values()),
            open=calls.get(CallStatus.OPEN, 0),
            settled=calls.get(CallStatus.SETTLED, 0),
            unknown=calls.get(CallStatus.UNKNOWN, 0),
        ),
        review=step.review,
        approved_at=_iso(step.approved_at),
        approved_by=step.approved_by,
        review_comment=step.review_comment,
    )


def _artifact_document(artifact: Artifact, truncated: Collection[str]) -> ArtifactDocument:
    metadata = artifact.metadata if isinstance(artifact.metadata, dict) else {}
    version = metadata.get("version")
    return ArtifactDocument(
        step=artifact.step,
        file_type=artifact.file_type,
        file_path=artifact.file_path,
        digest=artifact.digest,
        is_truncated=artifact.step in truncated if version is None else metadata.get("is_truncated") is True,
        version=version,
    )


def _calls(alias: str, run: Run) -> Calls:
    found: dict[int, dict[str, int]] = {}
    counted = Call.objects.using(alias).filter(run=run).order_by().values_list("step_id", "status")
    for step_id, status, number in counted.annotate(number=Count("pk")):
        found.setdefault(step_id, {})[status] = number
    return found


def _nothing_was_paid(cost: RunCost | None, steps: Collection[Step]) -> bool:
    """Return whether the known cost is 0: no tokens were used, and each step that was started has prices."""
    if cost is None or cost.unpriced_steps or cost.total_input_tokens or cost.total_output_tokens:
        return False
    return all(_has_prices(step) for step in steps if step.started_at is not None)


def _has_prices(step: Step) -> bool:
    """Return whether the step has a price for input and one for output."""
    if step.prices is not None:
        return "input" in step.prices and "output" in step.prices
    return step.cost_per_1k_input_tokens is not None and step.cost_per_1k_output_tokens is not None


def _ended_at(run: Run) -> str | None:
    return run.updated_at.isoformat() if run.status in ENDED else None


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _seconds(since: datetime, now: datetime) -> float:
    return round(max(0.0, (now - since).total_seconds()), 1)
