"""What runs will probably cost: the tokens that past runs used, at today's prices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from llm.prices.cost import cost_of
from llm.selectors import find_model
from llm.types import TokenUsage
from runs.config import RunConfig
from runs.history.usage import prompt_usage
from runs.models import Step, StepStatus
from runs.selectors import spending_document
from runs.services.plan import plan_run
from runs.types import PinnedStep
from tenants.routing.context import current_tenant

# If a step's prompt is new, this many of the newest steps are averaged instead.
NEWEST = 50


@dataclass(frozen=True)
class StepEstimate:
    """What a step of one run will probably use and cost."""

    step: str
    route: str
    # Means of past steps; None if there are none.
    input_tokens: int | None
    output_tokens: int | None
    # US dollars; None if there are no past steps, or a price is not known.
    cost: Decimal | None


@dataclass(frozen=True)
class Estimate:
    """What runs with the same steps and models will probably cost, in US dollars."""

    steps: list[StepEstimate]
    runs: int
    # What the tenant's calls of this month may have cost so far.
    used: Decimal
    # None: no budget.
    monthly_budget: Decimal | None
    run_budget: Decimal | None

    @property
    def known(self) -> Decimal | None:
        """Return the sum of the known costs of one run's steps; None if none is known."""
        known = [step.cost for step in self.steps if step.cost is not None]
        return sum(known, Decimal(0)) if known else None

    @property
    def is_complete(self) -> bool:
        return all(step.cost is not None for step in self.steps)

    @property
    def total(self) -> Decimal | None:
        return None if self.known is None else self.known * self.runs

    @property
    def exceeds_month(self) -> bool:
        """Return whether the known costs alone exceed what is left of the month's budget."""
        return self.monthly_budget is not None and self.used + (self.total or 0) > self.monthly_budget

    @property
    def exceeds_run(self) -> bool:
        return self.run_budget is not None and (self.known or Decimal(0)) > self.run_budget


def estimate(*, alias: str, config: RunConfig, runs: int) -> Estimate:
    """Return what `runs` runs with the steps and models of `config` will probably cost.

    Raises what `plan_run` raises if they cannot be started at all.
    """
    steps = plan_run(alias=alias, config=config)
    tokens = _mean_tokens(alias, steps)
    tenant = current_tenant()
    spending = spending_document(tenant_id=tenant.id)
    used = sum((Decimal(str(spending[name])) for name in ("spent_usd", "reserved_usd", "possible_usd")), Decimal(0))
    own = None if config.budget_usd is None else Decimal(str(config.budget_usd))
    return Estimate(
        [_estimated(step, tokens.get(step.step)) for step in steps],
        runs,
        used,
        tenant.monthly_budget_usd,
        own if own is not None else tenant.run_budget_usd,
    )


def _estimated(step: PinnedStep, tokens: tuple[int, int] | None) -> StepEstimate:
    route = f"{step.provider}/{step.model}"
    model = find_model(step.provider, step.model)
    if tokens is None or model is None:
        return StepEstimate(step.step, route, None, None, None)
    return StepEstimate(step.step, route, *tokens, cost_of(TokenUsage(*tokens), model.prices))


def _mean_tokens(alias: str, steps: Iterable[PinnedStep]) -> dict[str, tuple[int, int]]:
    """Return {step: mean input and output tokens} of past steps with the same prompt version, or else of the newest."""
    used = prompt_usage(alias=alias, prompt_ids=[step.prompt_id for step in steps])
    found = {}
    for step in steps:
        usage = used.get(step.prompt_id)
        if usage and usage.mean_input_tokens is not None and usage.mean_output_tokens is not None:
            found[step.step] = (usage.mean_input_tokens, usage.mean_output_tokens)
        elif (newest := _mean_of_newest(alias, step.step)) is not None:
            found[step.step] = newest
    return found


def _mean_of_newest(alias: str, step: str) -> tuple[int, int] | None:
    completed = Step.objects.using(alias).filter(step=step, status=StepStatus.COMPLETED, token_usage__isnull=False)
    usages = [usage or {} for usage in completed.order_by("-id").values_list("token_usage", flat=True)[:NEWEST]]
    if not usages:
        return None
    totals = (sum(usage.get(kind, 0) for usage in usages) for kind in ("input", "output"))
    tokens_in, tokens_out = (round(total / len(usages)) for total in totals)
    return tokens_in, tokens_out
