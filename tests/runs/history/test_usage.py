"""How often a prompt's versions were used, their cost and their failures, counted from the steps that used them."""

from collections.abc import Callable
from decimal import Decimal

from prompts.documents import prompt_list
from prompts.models import Prompt
from runs.history.usage import prompt_usage
from runs.models import Run, Step, StepStatus
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.runs.driving import execute, standard_model
from tests.runs.fake_llm import INPUT_TOKENS, OUTPUT_TOKENS, Answer, FakeLLM

MakeRun = Callable[..., Run]


def test_use_cost_tokens_and_failures_are_those_of_its_steps(
    tenant: Tenant, make_run: MakeRun, fake_llm: FakeLLM
) -> None:
    for answer in (Answer(), Answer(status=400, text="no")):
        fake_llm.answers.append(answer)
        execute(tenant, make_run(tenant, steps=("keyword_analysis",)), "keyword_analysis")
    make_run(tenant, steps=("keyword_analysis",))  # has not begun
    model = standard_model()
    assert model.cost_per_1k_input_tokens is not None and model.cost_per_1k_output_tokens is not None
    cost = INPUT_TOKENS * model.cost_per_1k_input_tokens + OUTPUT_TOKENS * model.cost_per_1k_output_tokens
    with tenant_context(tenant) as alias:
        prompt = Prompt.objects.using(alias).get(step="keyword_analysis")
        usage = prompt_usage(alias=alias, prompt_ids=[prompt.pk])[prompt.pk]
    assert (usage.used, usage.completed, usage.failed, usage.failure_rate) == (2, 1, 1, 0.5)
    assert (usage.mean_input_tokens, usage.mean_output_tokens) == (INPUT_TOKENS, OUTPUT_TOKENS)
    assert usage.mean_cost == (cost / 1000).quantize(Decimal("0.000000001"))
    [listed] = prompt_list(tenant_id=tenant.pk, step="keyword_analysis")
    assert listed["usage"]["used"] == 2 and listed["usage"]["mean_cost"] == float(usage.mean_cost)


def test_steps_without_a_price_are_counted_and_left_out(tenant: Tenant, make_run: MakeRun) -> None:
    make_run(tenant, steps=("keyword_analysis",))
    make_run(tenant, steps=("keyword_analysis",))
    with tenant_context(tenant) as alias:
        steps = Step.objects.using(alias).order_by("pk")
        steps.update(
            status=StepStatus.COMPLETED, token_usage={"input": 2000, "output": 1000}, started_at="2026-01-01T00:00Z"
        )
        steps.update(cost_per_1k_input_tokens=None, cost_per_1k_output_tokens=None)
        Step.objects.using(alias).filter(pk=steps[0].pk).update(
            cost_per_1k_input_tokens="0.001", cost_per_1k_output_tokens="0.002"
        )
        [usage] = prompt_usage(alias=alias, prompt_ids=[steps[0].prompt_id or 0]).values()
    assert (usage.used, usage.unpriced, usage.mean_cost) == (2, 1, Decimal("0.004"))
