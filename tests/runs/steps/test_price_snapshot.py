"""A step keeps the prices of all units from its first claim, and each of its calls is priced with them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from llm.models import LLMModel, LLMPrice, PriceSource
from llm.prices.history import price_add, price_in_force, prices_in_force, today
from llm.types import ModelPrices, TokenUsage
from runs.models import Run, RunCost, Step
from runs.tasks import sweep
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.runs.driving import execute, standard_model
from tests.runs.fake_llm import Answer, FakeLLM
from tests.runs.services.states import FIRST, change_step, steps_of

UNITS = {"input": "0.0000000001", "output": "2", "cached_read": "0.05", "cache_write_5m": "3"}
LONG = {"long_input": "1", "long_output": "4", "long_cached_read": "0.1"}
SHORT_CALL = TokenUsage(1_000, 200, cached_read=400, reasoning=50)
LONG_CALL = TokenUsage(5_001, 300, cached_read=1_000)


@pytest.fixture
def model() -> Iterator[LLMModel]:
    """Yield the model that the run pins; restore its prices afterwards."""
    row = standard_model()
    before = prices_in_force(row.pk)
    yield row
    price_add(model=row, prices=before, source=PriceSource.LIST)


def set_prices(model: LLMModel, document: dict[str, Any]) -> None:
    price_add(model=model, prices=ModelPrices.from_document(document), source=PriceSource.HAND)


def cost_of(tenant: Tenant, run: Run) -> RunCost:
    with tenant_context(tenant) as alias:
        return RunCost.objects.using(alias).get(run=run)


def test_the_first_claim_pins_all_units_and_later_prices_change_nothing(
    tenant: Tenant, run: Run, model: LLMModel, fake_llm: FakeLLM
) -> None:
    pinned = {**UNITS, **LONG, "long_context_over": 5_000}
    set_prices(model, pinned)
    fake_llm.answers.extend([Answer(text=" ", usage=SHORT_CALL), Answer(usage=LONG_CALL)])
    assert execute(tenant, run, FIRST) == "retried"
    # Of these, the second attempt takes nothing: neither prices nor threshold.
    set_prices(model, {"input": "999", "output": "999"})
    change_step(tenant, run, FIRST, not_before=None)
    assert execute(tenant, run, FIRST) == "completed"
    step = steps_of(tenant, run)[FIRST]
    assert step.prices == pinned
    assert (step.cost_per_1k_input_tokens, step.cost_per_1k_output_tokens) == (Decimal(0), Decimal(2))
    assert step.token_usage == {
        "input": 6_001,
        "output": 500,
        "cached_read": 1_400,
        "reasoning": 50,
        "long_input": 5_001,
        "long_output": 300,
        "long_cached_read": 1_000,
    }
    # 600 new, 400 cached, 200 out; then, each at its higher price, 4,001 new, 1,000 cached, 300 out.
    short = 600 * Decimal("0.0000000001") + 400 * Decimal("0.05") + 200 * 2
    long = 4_001 * 1 + 1_000 * Decimal("0.1") + 300 * 4
    cost = cost_of(tenant, run)
    assert (cost.total_llm_cost, cost.unpriced_tokens) == ((short + long) / 1000, None)


def test_a_unit_without_a_price_is_named(tenant: Tenant, run: Run, model: LLMModel, fake_llm: FakeLLM) -> None:
    set_prices(model, {"input": "1", "output": "2"})
    fake_llm.answers.append(Answer(usage=SHORT_CALL))
    assert execute(tenant, run, FIRST) == "completed"
    cost = cost_of(tenant, run)
    assert (cost.total_llm_cost, cost.unpriced_tokens) == (Decimal("0.6") + Decimal("0.4"), {"cached_read": 400})


def test_a_step_that_an_earlier_release_claimed_is_counted_as_it_was(
    tenant: Tenant, run: Run, model: LLMModel, fake_llm: FakeLLM
) -> None:
    fake_llm.answers.extend([Answer(status=503), Answer(usage=SHORT_CALL)])
    assert execute(tenant, run, FIRST) == "retried"
    earlier = {"cost_per_1k_input_tokens": Decimal("0.5"), "cost_per_1k_output_tokens": Decimal(2)}
    change_step(tenant, run, FIRST, not_before=None, prices=None, **earlier)
    assert execute(tenant, run, FIRST) == "completed"
    assert steps_of(tenant, run)[FIRST].prices is None
    cost = cost_of(tenant, run)
    assert (cost.total_llm_cost, cost.unpriced_tokens) == (Decimal("0.9"), None)


def test_a_model_that_was_removed_has_no_prices(tenant: Tenant, run: Run) -> None:
    with tenant_context(tenant) as alias:
        Step.objects.using(alias).filter(run=run, step=FIRST).update(llm_model="removed")
    assert execute(tenant, run, FIRST) == "failed"
    step = steps_of(tenant, run)[FIRST]
    assert (step.prices, step.cost_per_1k_input_tokens) == ({}, None)


def test_the_sweep_shows_prices_whose_day_has_come(model: LLMModel) -> None:
    held = price_in_force(model.pk)
    assert held is not None
    price_add(
        model=model,
        prices=ModelPrices({"input": Decimal(7), "output": Decimal(8)}),
        source=PriceSource.HAND,
        valid_from=today() + timedelta(days=9),
    )
    sweep()
    model.refresh_from_db()
    assert model.cost_per_1k_output_tokens != Decimal(8)
    # As if the day had come.
    LLMPrice.objects.create(
        model=model, valid_from=today(), prices={"input": "7", "output": "8"}, source="hand", made_by="test"
    )
    sweep()
    model.refresh_from_db()
    assert (model.cost_per_1k_input_tokens, model.cost_per_1k_output_tokens) == (Decimal(7), Decimal(8))
