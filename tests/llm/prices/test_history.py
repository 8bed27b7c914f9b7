"""The history of prices: which price is in effect, that no price in it changes, and that the columns agree with it."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import DatabaseError, connections, transaction
from django.db.models import Max

from audit.control.models import ControlAuditLog
from audit.log.actor import acting_as
from llm.errors import InvalidPrice
from llm.models import LLMModel, LLMPrice, PriceSource
from llm.prices.history import price_add, price_in_force, prices_begin, prices_in_force, today
from llm.selectors import find_model
from llm.types import ModelPrices

pytestmark = pytest.mark.usefixtures("undone")

DAY = timedelta(days=1)


@pytest.fixture
def model() -> LLMModel:
    return LLMModel.objects.create(provider_id="openai", model_name="ours", model_class="pro")


def prices_of(input_price: str, output_price: str = "1", **units: str) -> ModelPrices:
    stated = {"input": input_price, "output": output_price, **units}
    return ModelPrices({unit: Decimal(price) for unit, price in stated.items()})


def add(model: LLMModel, input_price: str, begins: date | None = None, **values: Any) -> LLMPrice:
    return price_add(model=model, prices=prices_of(input_price), source=PriceSource.HAND, valid_from=begins, **values)


def columns(model: LLMModel) -> tuple[Decimal | None, Decimal | None]:
    model.refresh_from_db()
    return model.cost_per_1k_input_tokens, model.cost_per_1k_output_tokens


class TestWhatHolds:
    def test_the_latest_that_has_begun(self, model: LLMModel) -> None:
        assert price_in_force(model.pk) is None and prices_in_force(model.pk) == ModelPrices()
        add(model, "1", today() - 9 * DAY)
        add(model, "2", today())
        add(model, "4", today() + 2 * DAY)
        add(model, "3", today() + DAY)
        assert prices_in_force(model.pk) == prices_of("2")
        found = find_model("openai", "ours")
        assert found is not None and found.prices == prices_of("2")

    def test_a_correction_is_another_row_of_the_same_day(self, model: LLMModel) -> None:
        add(model, "1")
        with acting_as("staff:ann"):
            row = add(model, "2", note="a digit was missing")
        assert prices_in_force(model.pk) == prices_of("2")
        assert (row.made_by, row.note, row.source, row.valid_from) == (
            *("staff:ann", "a digit was missing", "hand", today()),
        )
        assert LLMPrice.objects.filter(model=model).count() == 2

    def test_prices_keep_every_digit_and_the_columns_are_rounded(self, model: LLMModel) -> None:
        add(model, "0.000000123456")
        assert prices_in_force(model.pk).units["input"] == Decimal("0.000000123456")
        assert columns(model) == (Decimal("0"), Decimal("1"))
        assert price_in_force(model.pk) is not None and LLMPrice.objects.filter(model=model).count() == 1

    def test_the_columns_follow_when_a_price_begins(self, model: LLMModel) -> None:
        add(model, "1")
        add(model, "2", today() + DAY)
        assert columns(model) == (Decimal("1"), Decimal("1"))
        # As if the day had come.
        LLMPrice.objects.create(
            model=model, valid_from=today(), prices=prices_of("2").as_document(), source="list", made_by="test"
        )
        last = ControlAuditLog.objects.aggregate(last=Max("id"))["last"] or 0
        assert prices_begin() == ["openai/ours"]
        assert columns(model) == (Decimal("2"), Decimal("1"))
        assert prices_begin() == []
        [entry] = ControlAuditLog.objects.filter(id__gt=last)
        assert (entry.action, entry.details) == ("llm.prices.begin", {"models": ["openai/ours"]})
        assert LLMPrice.objects.filter(model=model).count() == 3


class TestRefusals:
    @pytest.mark.parametrize(
        ("prices", "message"),
        [
            (prices_of("-0.000001"), "Model openai/ours: the price of input must be at least 0 and less than 10000."),
            (prices_of("10000"), "the price of input must be at least 0"),
            (prices_of("NaN"), "the price of input must be at least 0"),
            (prices_of("1", cached_read="0.0000000000001"), "the price of cached_read has more than 12 decimal places"),
            (prices_of("1", audio="1"), "there is no unit 'audio'"),
            (prices_of("1", long_input="1"), "long-context prices need a threshold"),
            (ModelPrices({"input": Decimal(1)}, 0), "long-context threshold must be between 1 and 2147483647 tokens"),
        ],
    )
    def test_what_cannot_be_a_price(self, model: LLMModel, prices: ModelPrices, message: str) -> None:
        with pytest.raises(InvalidPrice, match=message):
            price_add(model=model, prices=prices, source=PriceSource.HAND)
        assert not LLMPrice.objects.filter(model=model).exists()

    def test_a_day_before_that_of_the_prices_that_hold(self, model: LLMModel) -> None:
        add(model, "1", today() - DAY)
        since = today() - DAY
        with pytest.raises(
            InvalidPrice,
            match=f"cannot take effect on {since - DAY}, because later ones have been in effect since {since}",
        ):
            add(model, "2", since - DAY)
        add(model, "2", since)

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE llm_prices SET prices = '{}'",
            "DELETE FROM llm_prices",
            "TRUNCATE llm_prices",
        ],
    )
    def test_the_database_refuses_every_other_change(self, model: LLMModel, statement: str) -> None:
        add(model, "1")
        with (
            pytest.raises(DatabaseError, match=r"llm_prices table does not allow|permission denied"),
            transaction.atomic(using="default"),
            connections["default"].cursor() as cursor,
        ):
            cursor.execute(statement)

    def test_the_rows_go_with_their_model(self, model: LLMModel) -> None:
        add(model, "1")
        model.delete()
        assert not LLMPrice.objects.filter(model_id=model.pk).exists()


class TestTheSpecifiedColumns:
    """A change of the price columns adds a row to the history, no matter what writes them."""

    def test_a_change_by_plain_sql_is_a_price_by_hand(self, model: LLMModel) -> None:
        price_add(model=model, prices=prices_of("1", cached_read="0.1"), source=PriceSource.LIST)
        LLMModel.objects.filter(pk=model.pk).update(cost_per_1k_input_tokens=Decimal("0.5"))
        row = price_in_force(model.pk)
        assert row is not None
        assert row.prices == {"input": "0.5", "output": "1", "cached_read": "0.1"}
        assert row.source == "hand" and row.made_by.startswith("database:")

    def test_an_empty_column_is_an_unknown_price(self, model: LLMModel) -> None:
        add(model, "1")
        LLMModel.objects.filter(pk=model.pk).update(cost_per_1k_input_tokens=None)
        assert prices_in_force(model.pk) == ModelPrices({"output": Decimal(1)})

    def test_saving_a_model_unchanged_adds_nothing(self, model: LLMModel) -> None:
        add(model, "0.0000001")
        model.refresh_from_db()
        model.save()
        assert LLMPrice.objects.filter(model=model).count() == 1

    def test_what_is_free_is_free_in_every_unit(self) -> None:
        zero = Decimal(0)
        model = LLMModel.objects.create(
            provider_id="local",
            model_name="free",
            model_class="pro",
            cost_per_1k_input_tokens=zero,
            cost_per_1k_output_tokens=zero,
        )
        units = ("input", "output", "cached_read", "cache_write_5m", "cache_write_1h")
        assert prices_in_force(model.pk) == ModelPrices(dict.fromkeys(units, zero))
