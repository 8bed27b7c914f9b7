"""Find unfinished runs that use a model: the summaries name the tenants, and the tenants' databases have the steps."""

from collections.abc import Iterator

from config.base.databases import CONTROL
from llm.in_use import Use
from runs.models import RunStatus, Step, StepStatus
from runs.summaries.models import RunSummary
from tenants.models import TenantStatus
from tenants.routing.context import tenant_context

UNFINISHED = (RunStatus.PENDING, RunStatus.RUNNING, RunStatus.PAUSED)
# The statuses of tenants that are asked.
ASKED = (TenantStatus.ACTIVE, TenantStatus.SUSPENDED)


def unfinished_uses(*, provider_id: str, model_name: str) -> Iterator[Use]:
    """For each active or suspended tenant that has one, yield an unfinished step of an unfinished run with this model.

    Raises `TenantError` if a tenant's database cannot be used.
    """
    unfinished = RunSummary.objects.using(CONTROL).filter(status__in=UNFINISHED, tenant__status__in=ASKED)
    for tenant_id in unfinished.order_by("tenant_id").values_list("tenant_id", flat=True).distinct():
        with tenant_context(tenant_id, statuses=ASKED) as alias:
            steps = Step.objects.using(alias).filter(
                run__status__in=UNFINISHED, llm_provider=provider_id, llm_model=model_name
            )
            found = list(steps.exclude(status=StepStatus.COMPLETED).order_by("pk").values_list("run_id", "step")[:1])
        yield from (Use(tenant_id, str(run_id), step) for run_id, step in found)
