"""Prices from the `genai-prices` package: USD per million tokens there, per thousand here."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal

from genai_prices.data_snapshot import DataSnapshot, get_snapshot
from genai_prices.types import ConditionalPrice, ModelInfo, ModelPrice, StartDateConstraint, TieredPrices
from genai_prices.update_prices import DEFAULT_UPDATE_URL, UpdatePrices

from llm.errors import PricesUnavailable
from llm.types import LONG, ModelPrices

# Our provider ids → the package's.
PROVIDERS = {"claude": "anthropic", "gemini": "google", "openai": "openai"}
# Our units → the package's. It has no price for reasoning, which is billed as output.
KEYS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cached_read": "cache_read_mtok",
    "cache_write_5m": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
}
# Local models cost nothing.
FREE = ModelPrices(dict.fromkeys(KEYS, Decimal(0)))


@dataclass(frozen=True)
class ListedModel:
    """A model's entry in the price list."""

    # The prices in effect on a day, and the later days on which others begin, in order.
    prices: ModelPrices
    to_come: tuple[tuple[date, ModelPrices], ...] = field(default=())
    # Tokens; None: not listed.
    context_window: int | None = None
    # The provider will retire the model, or has; the list states no date.
    is_deprecated: bool = False

    @property
    def has_prices(self) -> bool:
        """Whether the list has prices for input and output, for today and after every later change."""
        return all({"input", "output"} <= prices.units.keys() for _, prices in self.schedule(date.min))

    def schedule(self, today: date) -> tuple[tuple[date, ModelPrices], ...]:
        """Return the prices with the days on which they begin; the current ones begin today."""
        return ((today, self.prices), *self.to_come)


def installed_list() -> DataSnapshot:
    """Return the price list that came with the package."""
    return get_snapshot()


def current_list(url: str = DEFAULT_UPDATE_URL) -> DataSnapshot:
    """Fetch and return today's price list. Raises `PricesUnavailable`."""
    try:
        snapshot = UpdatePrices(url=url).fetch()
    except Exception as exc:  # network, HTTP status, JSON or shape: the package wraps none of them
        raise PricesUnavailable(url, str(exc) or type(exc).__name__) from exc
    if snapshot is None:
        raise PricesUnavailable(url, "empty")
    return snapshot


def listed(prices: DataSnapshot, provider_id: str, model_name: str, *, today: date | None = None) -> ListedModel | None:
    """Return a model's entry, with its prices from a day on; None if the list has no such model.

    The day is `today` (None: today's date in UTC). Also returns None for a provider that is not in `PROVIDERS`.
    """
    if provider_id not in PROVIDERS:
        return None
    try:
        _, model = prices.find_provider_model(model_name, None, PROVIDERS[provider_id], None)
    except LookupError:
        return None
    today = today or datetime.now(UTC).date()
    return ListedModel(
        prices=_prices_on(model, today),
        to_come=tuple((day, _prices_on(model, day)) for day in _later_days(model, today)),
        context_window=model.context_window,
        is_deprecated=bool(model.deprecated),
    )


def _later_days(model: ModelInfo, today: date) -> list[date]:
    stated: list[ConditionalPrice] = model.prices if isinstance(model.prices, list) else []
    constraints = [one.constraint for one in stated]
    days = {one.start_date for one in constraints if isinstance(one, StartDateConstraint)}
    return sorted(day for day in days if day > today)


def _prices_on(model: ModelInfo, day: date) -> ModelPrices:
    """Return a day's standard prices; they are empty if `ModelPrices` cannot express how they depend on the input."""
    stated = model.get_prices(datetime.combine(day, time.min, UTC))
    found = {unit: price for unit, key in KEYS.items() if (price := _stated(stated, key)) is not None}
    tiered = [price for price in found.values() if isinstance(price, TieredPrices)]
    thresholds = {tier.start for price in tiered for tier in price.tiers}
    if len(thresholds) > 1:
        return ModelPrices()
    base = {unit: _per_1k(price.base if isinstance(price, TieredPrices) else price) for unit, price in found.items()}
    if not thresholds:
        return ModelPrices(base)
    long = {LONG + unit: _per_1k(_beyond(price)) for unit, price in found.items()}
    return ModelPrices(base | long, thresholds.pop())


def _stated(stated: ModelPrice, key: str) -> Decimal | TieredPrices | None:
    price: Decimal | TieredPrices | None = getattr(stated, key, None)
    return price


def _beyond(price: Decimal | TieredPrices) -> Decimal:
    """Return the price beyond the threshold; a unit without tiers costs the same on both sides of it."""
    if isinstance(price, TieredPrices):
        return price.tiers[-1].price if price.tiers else price.base
    return price


def _per_1k(price: Decimal) -> Decimal:
    return price.scaleb(-3)
