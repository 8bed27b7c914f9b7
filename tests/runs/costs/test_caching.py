"""Later steps of a run read most of their input from the provider's cache, and the run's cost shows the saving."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from llm.models import LLMProvider
from runs.models import Call, Run, RunStatus, Step
from runs.presentation.cost import cost_text
from runs.selectors import run_document
from runs.services.create import run_create
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.llm.wire import allow_server
from tests.runs.costs.caching_provider import CachingProvider, common
from tests.runs.driving import STEPS, finish, reload
from tests.runs.fake_llm import FakeLLM

# About 2,500 tokens, as a customer's guide to its style has.
BRAND = "We sell grinders for coffee and roast our own beans in Osaka. Address the reader as a friend. " * 105
ARTICLE = "A sentence about grinders, their burrs and the beans. " * 30
# By a part of each step's task.
TEXTS = {
    "five questions": "- What grinds best?\n" * 20,
    "section headings": "## Burrs\n" * 30,
    "Write an article": ARTICLE,
    "Now write": ARTICLE,
}


def make(tenant: Tenant, provider: str) -> Run:
    models = {step: {"provider": provider, "model_class": "standard"} for step in STEPS}
    config = {"keyword": "coffee grinder", "language": "en", "brand": BRAND, "models": models}
    return run_create(tenant_id=tenant.pk, config=config)


@pytest.fixture(params=["openai", "claude"])
def provider(request: pytest.FixtureRequest, fake_llm: FakeLLM, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the id of a provider for which the fake stands in."""
    row = LLMProvider.objects.filter(pk=request.param)
    before = row.values("api_base_url", "is_active").get()
    if request.param == "claude":
        row.update(api_base_url=fake_llm.host_url, is_active=True)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
        allow_server(fake_llm.host_url, monkeypatch)
    yield request.param
    row.update(**before)


def test_later_steps_read_most_of_their_input_from_the_cache(provider: str, tenant: Tenant, fake_llm: FakeLLM) -> None:
    caching = CachingProvider(fake_llm, TEXTS)
    run = make(tenant, provider)
    assert finish(tenant, run) == ["completed"] * len(STEPS)
    assert reload(tenant, run).status == RunStatus.COMPLETED
    later = caching.usages[1:]
    assert sum(usage.cached_read for usage in later) >= 0.7 * sum(usage.input_tokens for usage in later)
    # No step reads what the last step would write.
    assert caching.usages[-1].cache_write_5m == 0
    with tenant_context(tenant) as alias:
        rows = Step.objects.using(alias).filter(run=run).order_by("position").values_list("token_usage", flat=True)
        assert list(rows) == [usage.as_document() for usage in caching.usages]
    assert_cost(tenant, run, caching)


def assert_cost(tenant: Tenant, run: Run, caching: CachingProvider) -> None:
    """Check the cost, with cached tokens at their own prices, and the saving against the price of new input."""
    with tenant_context(tenant) as alias:
        prices = [
            {unit: Decimal(price) for unit, price in (one or {}).items() if unit != "long_context_over"}
            for one in Step.objects.using(alias).filter(run=run).order_by("position").values_list("prices", flat=True)
        ]
    spent = saved = Decimal(0)
    for usage, price in zip(caching.usages, prices, strict=True):
        new = usage.input_tokens - usage.cached_read - usage.cache_write_5m
        written = price.get("cache_write_5m", Decimal(0)) * usage.cache_write_5m
        spent += new * price["input"] + usage.cached_read * price["cached_read"] + written
        spent += usage.output_tokens * price["output"]
        saved += (usage.input_tokens - new) * price["input"] - usage.cached_read * price["cached_read"] - written
    cost = run_document(tenant_id=tenant.pk, run_id=run.pk)["cost"]
    assert Decimal(cost["exact_llm_cost"] or 0) == spent / 1000
    with tenant_context(tenant) as alias:
        # What budgets count, call by call.
        calls = Call.objects.using(alias).filter(run=run)
        assert sum(call.cost_usd or 0 for call in calls) == spent / 1000
        assert all(call.bound_usd and call.bound_usd >= (call.cost_usd or 0) for call in calls)
    assert Decimal(cost["cache_saving"] or 0) == saved / 1000 > 0
    assert f"the provider's cache saved USD {saved / 1000:.6f}" in cost_text(cost)


def test_the_prompts_of_a_run_begin_alike(tenant: Tenant, fake_llm: FakeLLM) -> None:
    CachingProvider(fake_llm, TEXTS)
    finish(tenant, make(tenant, "openai"))
    first, second, third, fourth = fake_llm.prompts
    assert BRAND.strip() in common(first, second)
    assert TEXTS["five questions"].strip() in common(second, third)
    assert TEXTS["section headings"].strip() in common(third, fourth)
