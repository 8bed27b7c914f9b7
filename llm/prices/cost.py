"""Compute what a call costs at given prices.

The costs of runs come from the view `run_costs`. Its rules are the same, except for a unit without
a price: the view leaves it out and reports it, whereas here the whole cost is None.
"""

from decimal import Decimal

from llm.types import LONG, ModelPrices, TokenUsage

INPUT_UNITS = ("input", "cached_read", "cache_write_5m")
OUTPUT_UNITS = ("output", "reasoning")


def cost_of(usage: TokenUsage, prices: ModelPrices) -> Decimal | None:
    """Return the cost of a call in US dollars; None if it used a unit without a known price."""
    is_long = prices.long_context_over is not None and usage.input_tokens > prices.long_context_over
    cached = {unit: getattr(usage, unit) for unit in ("cached_read", "cache_write_5m", "cache_write_1h", "reasoning")}
    tokens = {
        "input": usage.input_tokens - sum(cached.values()) + usage.reasoning,
        "output": usage.output_tokens - usage.reasoning,
        **cached,
    }
    cost = Decimal(0)
    for unit, number in tokens.items():
        price = price_of(unit, prices, is_long=is_long)
        if number and price is None:
            return None
        cost += number * (price or 0)
    return cost / 1000


def cost_limit(input_tokens: int, output_tokens: int, prices: ModelPrices) -> Decimal | None:
    """Return the most that a call of this size can cost (US dollars); None if input or output has no known price."""
    is_long = prices.long_context_over is not None and input_tokens > prices.long_context_over
    of_input = _highest(INPUT_UNITS, prices, is_long=is_long)
    of_output = _highest(OUTPUT_UNITS, prices, is_long=is_long)
    if of_input is None or of_output is None:
        return None
    return (input_tokens * of_input + output_tokens * of_output) / 1000


def price_of(unit: str, prices: ModelPrices, *, is_long: bool) -> Decimal | None:
    """Return a unit's price per 1,000 tokens; None if unknown.

    Reasoning without a price of its own costs what output costs.
    """
    name = LONG + unit if is_long else unit
    if unit == "reasoning" and name not in prices.units:
        return price_of("output", prices, is_long=is_long)
    return prices.units.get(name)


def _highest(units: tuple[str, ...], prices: ModelPrices, *, is_long: bool) -> Decimal | None:
    """Return the highest price of the units; None if the first, which covers what the others do not, is unpriced."""
    if price_of(units[0], prices, is_long=is_long) is None:
        return None
    known = [price for unit in units if (price := price_of(unit, prices, is_long=is_long)) is not None]
    # A prompt near the threshold may turn out shorter than estimated.
    shorter = [price for unit in units if is_long and (price := prices.units.get(unit)) is not None]
    return max([*known, *shorter])
