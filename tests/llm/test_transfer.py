"""The LLM configuration moves to another installation with its prices and fallbacks."""

import json
from decimal import Decimal

import pytest
from pydantic import ValidationError

from llm.models import LLMModel, PriceSource, StepLLMDefault
from llm.prices.history import price_add, price_in_force, today
from llm.transfer import LLMConfiguration, configuration_add, configuration_read
from llm.types import ModelPrices

pytestmark = pytest.mark.usefixtures("undone")

PRICES = ModelPrices(
    {"input": Decimal("0.000000000001"), "output": Decimal(2), "long_cached_read": Decimal("0.5")}, 200_000
)


@pytest.fixture
def model() -> LLMModel:
    model = LLMModel.objects.create(
        provider_id="openai", model_name="ours", model_class="pro", retires_on=today(), is_deprecated=True
    )
    price_add(model=model, prices=PRICES, source=PriceSource.LIST)
    return model


def test_a_model_arrives_with_every_digit_of_its_prices(model: LLMModel) -> None:
    document = configuration_read().model_dump_json()
    model.delete()
    assert configuration_add(LLMConfiguration.model_validate_json(document)) == ["openai/ours"]
    arrived = LLMModel.objects.get(model_name="ours")
    assert (arrived.retires_on, arrived.is_deprecated) == (today(), True)
    assert (arrived.cost_per_1k_input_tokens, arrived.cost_per_1k_output_tokens) == (Decimal(0), Decimal(2))
    [row] = arrived.prices.all()
    assert (ModelPrices.from_document(row.prices), row.source) == (PRICES, "list")


def test_a_document_of_an_earlier_release_has_the_two_columns(model: LLMModel) -> None:
    document = json.loads(configuration_read().model_dump_json())
    document["models"] = [row for row in document["models"] if row["model_name"] == "ours"]
    for name in ("retires_on", "is_deprecated", "prices"):
        del document["models"][0][name]
    model.delete()
    assert configuration_add(LLMConfiguration.model_validate(document)) == ["openai/ours"]
    row = price_in_force(LLMModel.objects.get(model_name="ours").pk)
    assert row is not None and row.prices == {"input": "0", "output": "2"}


def test_a_step_arrives_with_its_fallbacks() -> None:
    fallbacks = [{"provider": "claude", "model_class": "pro"}, {"provider": "gemini", "model_class": "standard"}]
    StepLLMDefault.objects.filter(pk="draft").update(fallbacks=fallbacks)
    document = json.loads(configuration_read().model_dump_json())
    StepLLMDefault.objects.filter(pk="draft").delete()
    assert configuration_add(LLMConfiguration.model_validate(document)) == ["draft"]
    assert StepLLMDefault.objects.get(pk="draft").fallbacks == fallbacks
    StepLLMDefault.objects.filter(pk="draft").delete()
    for row in document["steps"]:
        del row["fallbacks"]  # as in a document of an earlier release
    configuration_add(LLMConfiguration.model_validate(document))
    assert StepLLMDefault.objects.get(pk="draft").fallbacks == []


@pytest.mark.parametrize("price", ["-1", "NaN", "1e-13", "10000", "x"])
def test_a_price_that_cannot_be_is_refused_when_the_document_is_read(model: LLMModel, price: str) -> None:
    document = json.loads(configuration_read().model_dump_json())
    document["models"][-1]["prices"] = {
        "units": {"input": price},
        "long_context_over": None,
        "source": "list",
    }
    with pytest.raises(ValidationError):
        LLMConfiguration.model_validate(document)
