"""The public price list, as the package gives it and as it is fetched."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from llm.errors import PricesUnavailable
from llm.prices.price_list import ListedModel, current_list, installed_list, listed
from llm.types import ModelPrices
from tests.llm.wire import Answer, WireServer

TODAY = date(2026, 11, 26)
MODEL = {"id": "m", "match": {"equals": "m"}, "context_window": 99}


def entry_of(server: WireServer, prices: Any, **model: object) -> ListedModel:
    models = [{**MODEL, "prices": prices, **model}]
    server.answer = Answer.of([{"id": "openai", "name": "OpenAI", "api_pattern": "x", "models": models}])
    entry = listed(current_list(server.url), "openai", "m", today=TODAY)
    assert entry is not None
    return entry


def test_a_fetched_price_is_exact(server: WireServer) -> None:
    entry = entry_of(server, {"input_mtok": "0.00000123", "output_mtok": 3})
    assert entry.prices.as_document() == {"input": "0.00000000123", "output": "0.003"}
    assert (entry.context_window, entry.to_come, entry.is_deprecated) == (99, (), False)


def test_all_units_have_their_prices() -> None:
    entry = listed(installed_list(), "claude", "claude-opus-5-5", today=TODAY)
    assert entry is not None and entry.prices.as_document() == {
        "input": "0.004",
        "output": "0.02",
        "cached_read": "0.0002",
        "cache_write_5m": "0.005",
        "cache_write_1h": "0.008",
    }


def test_beyond_the_threshold_everything_has_another_price(server: WireServer) -> None:
    tiers = {"base": 2, "tiers": [{"start": 272_000, "price": 4}]}
    entry = entry_of(server, {"input_mtok": tiers, "cache_read_mtok": "0.1", "output_mtok": 10})
    assert entry.prices.as_document() == {
        "input": "0.002",
        "output": "0.01",
        "cached_read": "0.0001",
        "long_input": "0.004",
        "long_output": "0.01",
        "long_cached_read": "0.0001",
        "long_context_over": 272_000,
    }


@pytest.mark.parametrize(
    "input_price",
    [
        {"base": 1, "tiers": [{"start": 10, "price": 2}, {"start": 20, "price": 3}]},
        {"base": 1, "tiers": [{"start": 11, "price": 2}]},
    ],
)
def test_prices_that_we_cannot_count_with_are_not_half_taken(server: WireServer, input_price: object) -> None:
    output = {"base": 1, "tiers": [{"start": 10, "price": 2}]}
    entry = entry_of(server, {"input_mtok": input_price, "output_mtok": output})
    assert entry.prices == ModelPrices() and not entry.has_prices


def test_prices_that_begin_later_are_known(server: WireServer) -> None:
    def since(day: str, price: int) -> dict[str, Any]:
        return {"constraint": {"start_date": day}, "prices": {"input_mtok": price, "output_mtok": 1}}

    first = {"prices": {"input_mtok": 1, "output_mtok": 1}}
    entry = entry_of(server, [first, since("2026-11-26", 2), since("2026-12-01", 3)], deprecated=True)
    assert entry.prices.units["input"] == Decimal("0.002")
    assert entry.to_come == ((date(2026, 12, 1), ModelPrices({"input": Decimal("0.003"), "output": Decimal("0.001")})),)
    assert entry.is_deprecated and entry.has_prices


def test_unknown_names_are_not_listed() -> None:
    assert listed(installed_list(), "openai", "our-own") is None
    assert listed(installed_list(), "local", "gpt-5") is None


@pytest.mark.parametrize("answer", [Answer(b"nope", 500), Answer(b"<html>"), Answer(b"{}"), Answer(b"[1]")])
def test_an_unreadable_list_is_reported(server: WireServer, answer: Answer) -> None:
    server.answer = answer
    with pytest.raises(PricesUnavailable, match="cannot be read"):
        current_list(server.url)
