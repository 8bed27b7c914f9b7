"""Find steps that have no worker because a wake-up or a worker was lost, and wake a worker for each."""

import logging
from datetime import datetime, timedelta

from django.conf import settings
from django.db import DatabaseError, connections, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from runs.costs.summarize import costs_summarize
from runs.models import WORKING, Call, CallStatus, Run, Step, StepStatus
from runs.steps.claim import APPROVED, DUE, LAPSED
from runs.steps.fallbacks.leave import steps_leave
from runs.steps.fallbacks.reroute import open_routes
from runs.steps.wake import rewake_s, waiting_of, wake
from runs.summaries.summarize import tenant_summarize
from runs.types import SweepReport
from tenants.errors import TenantError
from tenants.lifecycle.work_mark import clear_working
from tenants.models import Tenant
from tenants.routing.context import tenant_context

logger = logging.getLogger(__name__)

# How many steps of one tenant a sweep wakes; the next sweep continues.
BATCH = 200
# Locked rows are skipped anyway; this keeps a locked table from delaying the sweep of the other tenants.
LOCK_TIMEOUT = "1s"
# A mark younger than this may belong to a run that is not committed yet, and so not visible.
MARK_GRACE = timedelta(minutes=10)


def runs_sweep() -> SweepReport:
    """Repeat lost wake-ups of every tenant marked as working, and bring its summaries and daily costs up to date.

    Steps that wait for a model whose breaker is open move to their fallbacks first. Calls that lost workers left open
    are marked as unknown. The tenant's mark is cleared once it is older than `MARK_GRACE` and nothing is left to do: no
    pending or running run, no outdated summary, no call that is open or missing from the daily costs. A tenant that
    cannot be swept (suspended, unreachable, or because of a bug) keeps its mark for the next sweep and does not stop
    the sweep of the others.
    """
    woken = skipped = 0
    marked = _marked()
    closed = open_routes() if marked else frozenset()
    for tenant_id, seen_at, now in marked:
        try:
            with tenant_context(tenant_id) as alias:
                steps_leave(alias=alias, tenant_id=tenant_id, open_routes=closed)
                woken += tenant_sweep(alias=alias, tenant_id=tenant_id)
                calls_of_lost_workers(alias=alias)
                tenant_summarize(alias=alias, tenant_id=tenant_id)
                costs_summarize(alias=alias, tenant_id=tenant_id)
                working = _is_working(alias)
        except Exception as error:
            skipped += 1
            _log_skipped(tenant_id, error)
            continue
        if not working and seen_at < now - MARK_GRACE:
            clear_working(tenant_id, seen_at=seen_at)
    return SweepReport(tenants=len(marked), woken=woken, skipped=skipped)


def _is_working(alias: str) -> bool:
    """Return whether a run is pending, running or not summarized, or a call is open or not in the daily costs."""
    running = Run.objects.using(alias).filter(Q(status__in=WORKING) | Q(is_summarized=False))
    # Open calls are among the unsummarized ones.
    return running.exists() or Call.objects.using(alias).filter(is_summarized=False).exists()


def _marked() -> list[tuple[str, datetime, datetime]]:
    """Return (id, time of the mark, database time) of the tenants that may have work."""
    tenants = Tenant.objects.using("default").filter(work_seen_at__isnull=False).order_by("work_seen_at")
    return [(row.id, row.seen_at, row.now) for row in tenants.annotate(seen_at=F("work_seen_at"), now=Now())]


def tenant_sweep(*, alias: str, tenant_id: str) -> int:
    """Send a wake-up for each due or lapsed step of one tenant that has none under way; return how many were sent.

    1. lock those steps, `BATCH` at most, skipping any that another sweep has locked; 2. record when each wake-up will
    count as lost; 3. send them after the commit.
    """
    with transaction.atomic(using=alias):
        with connections[alias].cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        due = list(_neglected(alias).select_for_update(of=("self",), skip_locked=True)[:BATCH])
        for row in due:
            Step.objects.using(alias).filter(pk=row.pk).update(
                wake_after=Now() + timedelta(seconds=rewake_s(row.wake_count + 1)), wake_count=F("wake_count") + 1
            )
    for row in due:
        wake(waiting_of(tenant_id, row))
    return len(due)


def calls_of_lost_workers(*, alias: str) -> int:
    """Mark open calls whose claim is no longer current as unknown; return how many were marked.

    Before that, the worker has the length of a call's timeout and a lease to settle its call; it may also do so later.
    """
    current = Step.objects.using(alias).filter(
        pk=OuterRef("step_id"), status=StepStatus.RUNNING, lease_token=OuterRef("lease_token")
    )
    patience = timedelta(seconds=settings.LLM_TIMEOUT_S + settings.RUN_LEASE_S)
    calls = Call.objects.using(alias).filter(status=CallStatus.OPEN, started_at__lt=Now() - patience)
    return calls.exclude(Exists(current)).update(status=CallStatus.UNKNOWN, ended_at=Now())


def _neglected(alias: str) -> QuerySet[Step]:
    """Return the runs' current steps that have no worker and whose wake-up is overdue.

    The first wake-up was sent when the run was created or advanced, which is when the run's row last changed.
    """
    first_overdue = Q(run__updated_at__lte=Now() - timedelta(seconds=rewake_s(0)))
    return (
        Step.objects.using(alias)
        .filter(DUE | LAPSED, APPROVED, run__status__in=WORKING, run__current_step=F("step"))
        .filter(Q(wake_after__lte=Now()) | Q(wake_after=None) & (LAPSED | first_overdue))
        .order_by("id")
    )


def _log_skipped(tenant_id: str, error: Exception) -> None:
    expected = isinstance(error, (TenantError, DatabaseError))
    logger.log(
        logging.WARNING if expected else logging.ERROR,
        "tenant not swept",
        exc_info=None if expected else error,
        extra={"action": "runs.sweep", "tenant": tenant_id, "error": type(error).__name__},
    )
