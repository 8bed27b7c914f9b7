"""Compute what a provider's cache saved, compared with billing the cached tokens as input."""

from collections.abc import Mapping
from decimal import Decimal

from llm.types import LONG

CACHED = ("cached_read", "cache_write_5m", "cache_write_1h")


def cache_saving(usage: Mapping[str, int], prices: Mapping[str, object]) -> Decimal | None:
    """Return the USD that the cache saved; negative if writing to it cost more than reading saved.

    Returns None if nothing was cached. `usage` and `prices` are a step's documents. Tokens add
    nothing if the price of their unit, or that of input, is unknown.
    """
    if not any(usage.get(unit) for unit in CACHED):
        return None
    saved = Decimal(0)
    for unit in CACHED:
        long_tokens = usage.get(LONG + unit, 0)
        saved += _saved(usage.get(unit, 0) - long_tokens, prices, "input", unit)
        saved += _saved(long_tokens, prices, LONG + "input", LONG + unit)
    return saved


def _saved(tokens: int, prices: Mapping[str, object], plain: str, unit: str) -> Decimal:
    if plain not in prices or unit not in prices:
        return Decimal(0)
    return tokens * (Decimal(str(prices[plain])) - Decimal(str(prices[unit]))) / 1000
