"""Compare the control database's summaries with the runs in the tenants' databases, and rebuild those that differ."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django.db.utils import Error

from audit.log.entries import record
from config.base.databases import CONTROL
from config.base.errors import SeoGenError
from runs.errors import TenantReplaced
from runs.models import Run
from runs.summaries.models import RunSummary
from runs.summaries.rows import COLUMNS, Row, present_rows, read_rows, write_rows
from tenants.errors import reason_of
from tenants.models import Tenant, TenantStatus
from tenants.routing.context import tenant_context
from tenants.routing.pool import version_of
from tenants.selectors import tenant_get, tenants_existing

Found = TypeVar("Found")

RECONCILED = (TenantStatus.ACTIVE, TenantStatus.SUSPENDED)
# How many runs are compared at a time.
BATCH = 500
# The maximum number of differences that a report names.
NAMED = 1000
# A summary that the process did not write is written by the next sweep. A summary that has been outdated for this many
# sweeps is reported as a difference.
SWEEPS = 4


@dataclass(frozen=True)
class Difference:
    """A run whose summary in the control database is wrong."""

    run_id: str
    # "missing": it has no summary; "surplus": there is a summary, but no such run.
    kind: Literal["missing", "surplus", "different"]
    # The columns that differ; [] unless the kind is "different".
    columns: list[str] = field(default_factory=list)


@dataclass
class Reconciliation:
    """The result for one tenant."""

    tenant_id: str
    runs: int = 0
    # Summaries that were outdated because the run had just changed. A check leaves them to the sweep.
    waiting: int = 0
    # The number of all differences, and the first ones in detail. Unless they were only checked, they are now gone.
    difference_count: int = 0
    differences: list[Difference] = field(default_factory=list)
    # Why the tenant could not be compared; "" if it was.
    problem: str = ""


def run_reconcile(*, tenant_id: str | None, check: bool = False) -> list[Reconciliation]:
    """Rebuild wrong summaries of the given tenant, or of all active and suspended ones; with `check`, only compare.

    If all are reconciled, a tenant with an error does not stop the others; its `problem` says why. If one is given, its
    error is raised instead.
    """
    return reconciled(tenant_id, lambda tenant: _tenant_reconcile(tenant, check=check), Reconciliation)


def reconciled(
    tenant_id: str | None, reconcile: Callable[[Tenant], Found], failed: Callable[..., Found]
) -> list[Found]:
    """Call `reconcile` for one tenant, or for all active and suspended ones, and return the results.

    With a `tenant_id`, an error of `reconcile` is raised. Otherwise, the result for a tenant with a `SeoGenError` or a
    database error is `failed(id, problem=…)`, and the others are still reconciled.
    """
    if tenant_id:
        return [reconcile(tenant_get(tenant_id))]
    found = []
    for tenant in tenants_existing().filter(status__in=RECONCILED).order_by("id"):
        try:
            found.append(reconcile(tenant))
        except (SeoGenError, Error) as error:
            found.append(failed(tenant.id, problem=reason_of(error)))
    return found


def tenant_rebuild(*, alias: str, tenant_id: str, check: bool = False) -> Reconciliation:
    """Make the tenant's summaries match the database behind `alias` (with `check`, only compare); return what differed.

    For each batch by id: 1. compare; 2. replace the summaries that differ, in one transaction of the control database,
    during which no other process can write the tenant's summaries, so a change is never lost. The tenant's database is
    only read. Raises `TenantReplaced` if `alias` is no longer the tenant's database when summaries are replaced.
    """
    found = Reconciliation(tenant_id)
    for batch in _batches(alias, tenant_id):
        found.runs += len(batch.expected)
        differing = batch.differing()
        waiting = _waiting(alias, differing)
        found.waiting += len(waiting)
        if check:
            _note(found, _confirmed(alias, tenant_id, differing - waiting))
        elif differing:
            _note(found, {run_id: batch.difference(run_id) for run_id in differing})
            _replace(alias, tenant_id, differing)
    return found


def _tenant_reconcile(tenant: Tenant, *, check: bool) -> Reconciliation:
    with tenant_context(tenant, statuses=RECONCILED) as alias:
        found = tenant_rebuild(alias=alias, tenant_id=tenant.id, check=check)
    if not check:
        with transaction.atomic(using=CONTROL):
            record(
                using=CONTROL,
                action="run.reconcile",
                resource_type="tenant",
                resource_id=tenant.id,
                details={"runs": found.runs, "replaced": found.difference_count},
            )
    return found


@dataclass(frozen=True)
class _Batch:
    """One range of run ids: the summaries that the tenant's database yields, and those in the control database."""

    expected: dict[UUID, Row]
    present: dict[UUID, Row]

    def differing(self) -> set[UUID]:
        either = self.expected.keys() | self.present.keys()
        return {run_id for run_id in either if self.expected.get(run_id) != self.present.get(run_id)}

    def difference(self, run_id: UUID) -> Difference:
        wanted, found = self.expected.get(run_id), self.present.get(run_id)
        if found is None:
            return Difference(str(run_id), "missing")
        if wanted is None:
            return Difference(str(run_id), "surplus")
        columns = [name for name in COLUMNS if getattr(wanted, name) != getattr(found, name)]
        return Difference(str(run_id), "different", columns)


def _batches(alias: str, tenant_id: str) -> Iterator[_Batch]:
    """Yield batches, by id, that together contain each run and each summary of the tenant once."""
    after: UUID | None = None
    while True:
        runs = Run.objects.using(alias).order_by("pk")
        expected = read_rows((runs.filter(pk__gt=after) if after else runs)[:BATCH])
        last = expected[-1].run_id if len(expected) == BATCH else None
        bounds = {"run_id__gt": after, "run_id__lte": last}
        present = present_rows(tenant_id, **{name: bound for name, bound in bounds.items() if bound})
        yield _Batch({row.run_id: row for row in expected}, present)
        if last is None:
            return
        after = last


def _waiting(alias: str, run_ids: Collection[UUID]) -> set[UUID]:
    """Return those of the runs that changed within the last few sweeps and whose summaries a sweep is yet to write."""
    if not run_ids:
        return set()
    recent = Now() - timedelta(seconds=SWEEPS * settings.RUN_SWEEP_INTERVAL_S)
    outdated = Run.objects.using(alias).filter(pk__in=run_ids, is_summarized=False, updated_at__gt=recent)
    return set(outdated.values_list("pk", flat=True))


def _confirmed(alias: str, tenant_id: str, run_ids: Collection[UUID]) -> dict[UUID, Difference]:
    """Return the differences that were not caused by reading the two databases at different times.

    Those that a sweep will remove (`_waiting`) are left out. A run that is the same before and after its summary is
    read was the same in between.
    """
    if not run_ids:
        return {}
    runs = Run.objects.using(alias).filter(pk__in=run_ids)
    before = {row.run_id: row for row in read_rows(runs)}
    batch = _Batch(before, present_rows(tenant_id, run_id__in=run_ids))
    after = {row.run_id: row for row in read_rows(runs.all())}
    same = {run_id for run_id in batch.differing() if before.get(run_id) == after.get(run_id)}
    return {run_id: batch.difference(run_id) for run_id in same - _waiting(alias, same)}


def _replace(alias: str, tenant_id: str, run_ids: Collection[UUID]) -> None:
    with transaction.atomic(using=CONTROL):
        version = version_of(alias)
        # Waits for processes that are writing the tenant's summaries, and makes later ones wait (`rows.UPSERT`).
        tenant = (
            Tenant.objects.using(CONTROL).select_for_update(no_key=True).only("connection_version").get(pk=tenant_id)
        )
        if version not in (None, tenant.connection_version):
            raise TenantReplaced(tenant_id)
        RunSummary.objects.using(CONTROL).filter(tenant_id=tenant_id, run_id__in=run_ids).delete()
        rows = read_rows(Run.objects.using(alias).filter(pk__in=run_ids))
        if rows:
            write_rows(tenant_id, rows, version=version)


def _note(found: Reconciliation, differences: dict[UUID, Difference]) -> None:
    found.difference_count += len(differences)
    named = [differences[run_id] for run_id in sorted(differences)]
    found.differences += named[: NAMED - len(found.differences)]
