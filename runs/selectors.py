"""Read runs, and build the document that commands show."""

from uuid import UUID

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from runs.errors import UnknownRun
from runs.models import Artifact, Run, RunCost, Step
from runs.types import ArtifactDocument, CostDocument, RunDocument, RunSummary, StepDocument
from tenants.routing.context import tenant_context


def run_get(*, alias: str, run_id: UUID | str) -> Run:
    """Return the run; raise `UnknownRun` if the tenant has none with this id."""
    try:
        run = Run.objects.using(alias).filter(pk=UUID(str(run_id))).first()
    except ValueError:
        run = None
    if run is None:
        raise UnknownRun(
            _("There is no run %(id)s.") % {"id": repr(str(run_id))[:60]},
            hint=_("List the tenant's runs with `seo-gen run list`."),
        )
    return run


def run_list(*, alias: str, status: str | None = None, limit: int | None = None) -> QuerySet[Run]:
    """Return the tenant's runs, newest first."""
    runs = Run.objects.using(alias).order_by("-created_at", "id")
    runs = runs.filter(status=status) if status else runs
    return runs[:limit] if limit is not None else runs


def run_summary(*, tenant_id: str, run: Run) -> RunSummary:
    """Return what lists show of a run."""
    return RunSummary(
        tenant_id=tenant_id,
        id=str(run.pk),
        status=run.status,
        current_step=run.current_step,
        keyword=run.config.get("keyword") if isinstance(run.config, dict) else None,
        created_at=run.created_at.isoformat(),
        updated_at=run.updated_at.isoformat(),
    )


def run_document(*, tenant_id: str, run_id: UUID | str) -> RunDocument:
    """Return a run's document: status, steps in order, cost and artifacts, with paths and digests but no content.

    Raises `TenantError` or `UnknownRun`.
    """
    with tenant_context(tenant_id) as alias:
        run = run_get(alias=alias, run_id=run_id)
        steps = Step.objects.using(alias).filter(run=run).order_by("position", "id")
        artifacts = Artifact.objects.using(alias).filter(run=run).order_by("id")
        return RunDocument(
            tenant_id=tenant_id,
            id=str(run.pk),
            status=run.status,
            current_step=run.current_step,
            config=run.config,
            created_at=run.created_at.isoformat(),
            steps=[_step_document(step) for step in steps],
            cost=cost_document(RunCost.objects.using(alias).filter(run=run).first()),
            artifacts=[_artifact_document(artifact) for artifact in artifacts],
        )


def cost_document(cost: RunCost | None) -> CostDocument:
    """Return a run's cost; pass None for a run without steps."""
    known = cost.total_llm_cost if cost else None
    return CostDocument(
        total_llm_cost=round(float(known), 9) if known is not None else None,
        total_input_tokens=cost.total_input_tokens if cost else None,
        total_output_tokens=cost.total_output_tokens if cost else None,
        unpriced_steps=cost.unpriced_steps if cost else 0,
    )


def _step_document(step: Step) -> StepDocument:
    took = step.completed_at - step.started_at if step.completed_at and step.started_at else None
    return StepDocument(
        step=step.step,
        status=step.status,
        llm_provider=step.llm_provider,
        llm_model=step.llm_model,
        token_usage=step.token_usage,
        retry_count=step.retry_count,
        error_message=step.error_message,
        seconds=round(took.total_seconds(), 3) if took else None,
        output_path=step.output_path,
        output_digest=step.output_digest,
        summary=step.summary,
        metrics=step.metrics,
    )


def _artifact_document(artifact: Artifact) -> ArtifactDocument:
    return ArtifactDocument(
        step=artifact.step, file_type=artifact.file_type, file_path=artifact.file_path, digest=artifact.digest
    )
