"""Insert calls with costs, as workers leave them, and read the daily costs of the control database."""

from __future__ import annotations

from datetime import UTC, date, datetime

from runs.costs.days import Costs, Key, present_days
from runs.costs.reconcile import cost_reconcile
from runs.costs.summarize import costs_summarize
from runs.models import Call, CallStatus, Run, RunStatus, Step, StepStatus
from tenants.models import Tenant
from tenants.routing.context import tenant_context

BEFORE = datetime(2026, 1, 1, tzinfo=UTC)
MODEL = "m"


def make_old(tenant: Tenant) -> None:
    """Make the tenant older than the calls that tests give it."""
    Tenant.objects.filter(pk=tenant.pk).update(created_at=BEFORE)


def add_step(tenant: Tenant, step: str = "draft", *, prices: tuple[str | None, str | None] = ("0.5", "2")) -> Step:
    """Insert a run with a step that has these (input, output) prices per 1,000 tokens in USD; return the step."""
    with tenant_context(tenant) as alias:
        run = Run.objects.using(alias).create(status=RunStatus.COMPLETED)
        return Step.objects.using(alias).create(
            run=run,
            step=step,
            status=StepStatus.COMPLETED,
            cost_per_1k_input_tokens=prices[0],
            cost_per_1k_output_tokens=prices[1],
        )


def add_call(
    tenant: Tenant, step: Step, at: str, usage: dict[str, int] | None, *, model: str = MODEL, status: str = ""
) -> int:
    """Insert a call of at most 1,000 tokens in and 1,000 out; return its id.

    Without `usage` and `status`, its outcome is unknown.
    """
    with tenant_context(tenant) as alias:
        call = Call.objects.using(alias).create(
            run_id=step.run_id,
            step_id=step.pk,
            version=1,
            attempt=1,
            lease_token=1,
            llm_provider="openai",
            llm_model=model,
            status=status or (CallStatus.UNKNOWN if usage is None else CallStatus.SETTLED),
            token_usage=usage,
            max_input_tokens=1000,
            max_output_tokens=1000,
            started_at=datetime.fromisoformat(at),
        )
    return int(call.pk)


def summarize(tenant: Tenant) -> bool:
    with tenant_context(tenant) as alias:
        return costs_summarize(alias=alias, tenant_id=tenant.pk)


def costs(tenant: Tenant) -> dict[tuple[str, str, str], Costs]:
    """Return the tenant's daily costs in the control database, by (day, step, model)."""
    return {(f"{key.day}", key.step, key.model): row for key, row in present_days(tenant.pk).items()}


def key(day: str, step: str = "draft", model: str = MODEL) -> Key:
    return Key(date.fromisoformat(day), step, "openai", model)


def is_exact(tenant: Tenant) -> bool:
    [found] = cost_reconcile(tenant_id=tenant.pk, check=True)
    return not found.differing and not found.waiting
