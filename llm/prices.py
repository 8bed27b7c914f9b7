"""Prices from the `genai-prices` package: USD per million tokens there, per thousand here."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal

from genai_prices.data_snapshot import DataSnapshot, get_snapshot
from genai_prices.types import ModelInfo, TieredPrices
from genai_prices.update_prices import DEFAULT_UPDATE_URL, UpdatePrices

from llm.errors import PricesUnavailable
from llm.types import Prices

# Our provider ids → the package's.
PROVIDERS = {"claude": "anthropic", "gemini": "google", "openai": "openai"}
# Local models cost nothing.
FREE = Prices(Decimal(0), Decimal(0))
_PLACES = Decimal("0.000001")


@dataclass(frozen=True)
class ListedModel:
    """A model's entry in the price list."""

    prices: Prices
    # Tokens; None: not listed.
    context_window: int | None


def installed_list() -> DataSnapshot:
    """Return the price list that came with the package."""
    return get_snapshot()


def current_list(url: str = DEFAULT_UPDATE_URL) -> DataSnapshot:
    """Fetch today's price list. Raises `PricesUnavailable`."""
    try:
        snapshot = UpdatePrices(url=url).fetch()
    except Exception as exc:  # network, HTTP status, JSON or shape: the package wraps none of them
        raise PricesUnavailable(url, str(exc) or type(exc).__name__) from exc
    if snapshot is None:
        raise PricesUnavailable(url, "empty")
    return snapshot


def listed(prices: DataSnapshot, provider_id: str, model_name: str) -> ListedModel | None:
    """Return a model's current prices, or None if the list does not have the provider or model.

    If a price depends on the prompt's length, return the one for the shortest prompts, as ours are short.
    """
    if provider_id not in PROVIDERS:
        return None
    try:
        _, model = prices.find_provider_model(model_name, None, PROVIDERS[provider_id], None)
    except LookupError:
        return None
    return ListedModel(_prices_of(model), model.context_window)


def _prices_of(model: ModelInfo) -> Prices:
    price = model.get_prices(datetime.now(UTC))
    return Prices(_per_1k(getattr(price, "input_mtok", None)), _per_1k(getattr(price, "output_mtok", None)))


def _per_1k(price: Decimal | TieredPrices | None) -> Decimal | None:
    if price is None:
        return None
    base = price.base if isinstance(price, TieredPrices) else price
    return (base / 1000).quantize(_PLACES, ROUND_HALF_UP)
