"""Find unfinished runs that use a model: the summaries name the tenants, and the tenants' databases have the steps."""

from collections.abc import Iterator

from django.db.models import Q

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
    """Yield a step of an unfinished run that may use this model, for each active or suspended tenant that has one.

    Raises `TenantError` if a tenant's database cannot be used.
    """
    unfinished = RunSummary.objects.using(CONTROL).filter(status__in=UNFINISHED, tenant__status__in=ASKED)
    for tenant_id in unfinished.order_by("tenant_id").values_list("tenant_id", flat=True).distinct():
        with tenant_context(tenant_id, statuses=ASKED) as alias:
            own = Q(llm_provider=provider_id, llm_model=model_name)
            pinned = Q(fallbacks__contains=[{"provider": provider_id, "model": model_name}])
            steps = Step.objects.using(alias).filter(own | pinned, run__status__in=UNFINISHED)
            found = list(steps.exclude(status=StepStatus.COMPLETED).order_by("pk").values_list("run_id", "step")[:1])
        yield from (Use(tenant_id, str(run_id), step) for run_id, step in found)
