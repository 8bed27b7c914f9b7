"""The prices that a claim stores on a step without prices, so that later price changes do not alter past costs."""

from decimal import Decimal
from typing import TypedDict

from llm.types import ModelPrices, ResolvedModel


class PriceSnapshot(TypedDict):
    """The columns of a step that hold prices. An unknown one is missing from `prices`, and None in its own column."""

    # By unit, exact (`ModelPrices.as_document`).
    prices: dict[str, object]
    # Rounded to six decimal places.
    cost_per_1k_input_tokens: Decimal | None
    cost_per_1k_output_tokens: Decimal | None


def price_snapshot(model: ResolvedModel | None) -> PriceSnapshot:
    """Return the prices in effect now; they are empty if the model is no longer in the catalogue."""
    prices = model.prices if model else ModelPrices()
    return PriceSnapshot(
        prices=prices.as_document(),
        cost_per_1k_input_tokens=prices.column("input"),
        cost_per_1k_output_tokens=prices.column("output"),
    )
