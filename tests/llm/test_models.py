"""Defaults and constraints of the catalogue's tables, mostly checked with plain SQL."""

import pytest
from django.db import IntegrityError, connections, transaction
from django.db.models import ProtectedError

from llm.clients.registry import CLIENTS
from llm.models import LLMModel, LLMProvider, StepLLMDefault, Wire

pytestmark = pytest.mark.usefixtures("undone")


def execute(statement: str) -> None:
    with transaction.atomic(using="default"), connections["default"].cursor() as cursor:
        cursor.execute(statement)


@pytest.fixture
def provider() -> LLMProvider:
    execute("INSERT INTO llm_providers (id, display_name) VALUES ('p', 'P')")
    return LLMProvider.objects.get(pk="p")


def test_the_specified_columns_are_sufficient(provider: LLMProvider) -> None:
    execute("INSERT INTO llm_models (provider_id, model_name, model_class) VALUES ('p', 'm', 'pro')")
    execute("INSERT INTO step_llm_defaults (step, provider_id, model_class) VALUES ('s', 'p', 'standard')")
    model = LLMModel.objects.get(provider=provider)
    assert provider.is_active and provider.api_base_url is None
    assert model.is_active and model.cost_per_1k_input_tokens is None and model.max_output_tokens is None
    assert StepLLMDefault.objects.get(pk="s").position == 0
    assert (str(provider), str(model)) == ("P", "p/m")


def test_a_model_name_is_unique_per_provider(provider: LLMProvider) -> None:
    insert = "INSERT INTO llm_models (provider_id, model_name, model_class) VALUES ('p', 'm', '{}')"
    execute(insert.format("pro"))
    with pytest.raises(IntegrityError, match="llm_models_provider_model_name_key"):
        execute(insert.format("standard"))


def test_there_are_two_classes(provider: LLMProvider) -> None:
    with pytest.raises(IntegrityError, match="llm_models_class_is_known"):
        execute("INSERT INTO llm_models (provider_id, model_name, model_class) VALUES ('p', 'm', 'ultra')")
    with pytest.raises(IntegrityError, match="step_llm_defaults_class_is_known"):
        execute("INSERT INTO step_llm_defaults (step, provider_id, model_class) VALUES ('s', 'p', 'ultra')")


def test_there_are_three_wires(provider: LLMProvider) -> None:
    assert (provider.wire, provider.key_variable) == ("openai", "")
    assert set(Wire.values) == set(CLIENTS)
    with pytest.raises(IntegrityError, match="llm_providers_wire_is_known"):
        execute("UPDATE llm_providers SET wire = 'cohere' WHERE id = 'p'")


def test_a_price_is_not_negative_even_if_the_other_is_unknown(provider: LLMProvider) -> None:
    columns = "provider_id, model_name, model_class, cost_per_1k_output_tokens"
    with pytest.raises(IntegrityError, match="llm_models_prices_are_not_negative"):
        execute(f"INSERT INTO llm_models ({columns}) VALUES ('p', 'm', 'pro', -0.000001)")


def test_a_provider_in_use_cannot_be_deleted(provider: LLMProvider) -> None:
    execute("INSERT INTO step_llm_defaults (step, provider_id, model_class) VALUES ('s', 'p', 'standard')")
    with pytest.raises(ProtectedError):
        provider.delete()
