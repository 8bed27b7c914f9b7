"""Costs of one call, compared with sums calculated by hand."""

from decimal import Decimal

import pytest

from llm.prices.cost import cost_limit, cost_of
from llm.types import ModelPrices, TokenUsage

pytestmark = pytest.mark.unit

PLAIN = ModelPrices({"input": Decimal("0.003"), "output": Decimal("0.015")})
CACHED = ModelPrices({**PLAIN.units, "cached_read": Decimal("0.0003"), "cache_write_5m": Decimal("0.00375")})
LONG = ModelPrices(
    {**PLAIN.units, "reasoning": Decimal("0.02"), "long_input": Decimal("0.006"), "long_output": Decimal("0.0225")},
    long_context_over=1000,
)


@pytest.mark.parametrize(
    ("usage", "prices", "cost"),
    [
        (TokenUsage(1000, 100), PLAIN, Decimal("0.0045")),
        (TokenUsage(1000, 100, cached_read=900), CACHED, Decimal("0.00207")),
        (TokenUsage(1000, 100, cached_read=500, cache_write_5m=400), CACHED, Decimal("0.00345")),
        (TokenUsage(1000, 100, cached_read=900), PLAIN, None),
        (TokenUsage(1000, 100, cache_write_1h=1), CACHED, None),
        # Reasoning without a price costs what output costs.
        (TokenUsage(1000, 100, reasoning=90), PLAIN, Decimal("0.0045")),
        (TokenUsage(1000, 100, reasoning=90), LONG, Decimal("0.00495")),
        (TokenUsage(1001, 100, reasoning=90), LONG, Decimal("0.008256")),
        (TokenUsage(0, 0), ModelPrices(), Decimal(0)),
        (TokenUsage(1, 0), ModelPrices(), None),
    ],
)
def test_the_cost_of_a_call(usage: TokenUsage, prices: ModelPrices, cost: Decimal | None) -> None:
    assert cost_of(usage, prices) == cost


@pytest.mark.parametrize(
    ("size", "prices", "limit"),
    [
        ((1000, 100), PLAIN, Decimal("0.0045")),
        # All of it may be written to the cache.
        ((1000, 100), CACHED, Decimal("0.00525")),
        ((1000, 100), LONG, Decimal("0.005")),
        ((1001, 100), LONG, Decimal("0.008256")),
        ((1000, 100), ModelPrices({"output": Decimal(1)}), None),
        ((1000, 100), ModelPrices({"input": Decimal(1)}), None),
    ],
)
def test_no_call_of_a_size_costs_more_than_its_limit(
    size: tuple[int, int], prices: ModelPrices, limit: Decimal | None
) -> None:
    assert cost_limit(*size, prices) == limit
    for part in (0, size[0] // 2, size[0]):
        for reasoning in (0, size[1]):
            for usage in (
                TokenUsage(*size, cached_read=part, reasoning=reasoning),
                TokenUsage(*size, cache_write_5m=part, reasoning=reasoning),
            ):
                cost = cost_of(usage, prices)
                assert cost is None or (limit is not None and cost <= limit)
