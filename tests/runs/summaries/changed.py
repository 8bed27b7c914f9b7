"""Change runs as the product does: their rows in one transaction, and their summaries after its commit."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction

from runs.models import Run, RunStatus, Step, StepStatus
from runs.summaries.models import RunSummary
from runs.summaries.reconcile import tenant_rebuild
from runs.summaries.rows import present_rows, read_rows
from runs.summaries.summarize import summarize_on_commit
from tenants.models import Tenant
from tenants.routing.context import tenant_context


def add(tenant: Tenant, *, status: str = RunStatus.PENDING, keyword: str = "tea") -> UUID:
    """Insert a run with two steps, which is summarized on commit; return its id."""
    with tenant_context(tenant) as alias, transaction.atomic(using=alias):
        run = Run.objects.using(alias).create(status=status, current_step="outline", config={"keyword": keyword})
        for position, step in enumerate(("outline", "draft")):
            Step.objects.using(alias).create(
                run=run, step=step, status=StepStatus.PENDING, position=position, started_at=None
            )
        summarize_on_commit(alias=alias, tenant_id=tenant.pk, run_id=run.pk)
    return UUID(str(run.pk))


def change(tenant: Tenant, run_id: UUID, **columns: object) -> None:
    with tenant_context(tenant) as alias, transaction.atomic(using=alias):
        Run.objects.using(alias).filter(pk=run_id).update(**columns)
        summarize_on_commit(alias=alias, tenant_id=tenant.pk, run_id=run_id)


def fail(tenant: Tenant, run_id: UUID, error: str) -> None:
    with tenant_context(tenant) as alias, transaction.atomic(using=alias):
        Step.objects.using(alias).filter(run=run_id, step="outline").update(
            status=StepStatus.FAILED, error_message=error
        )
        Run.objects.using(alias).filter(pk=run_id).update(status=RunStatus.FAILED, current_step="outline")
        summarize_on_commit(alias=alias, tenant_id=tenant.pk, run_id=run_id)


def summary(run_id: UUID) -> RunSummary:
    return RunSummary.objects.get(run_id=run_id)


def is_summarized(tenant: Tenant, run_id: UUID) -> bool:
    with tenant_context(tenant) as alias:
        return Run.objects.using(alias).get(pk=run_id).is_summarized


def is_exact(tenant: Tenant) -> bool:
    """Return whether the control database's summaries equal the tenant's runs; fail if a check finds a difference."""
    with tenant_context(tenant) as alias:
        assert tenant_rebuild(alias=alias, tenant_id=tenant.pk, check=True).difference_count == 0
        return {row.run_id: row for row in read_rows(Run.objects.using(alias))} == present_rows(tenant.pk)
