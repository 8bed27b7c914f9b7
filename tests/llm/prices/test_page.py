"""The admin's pages about prices: the history, the form with all units, and what they refuse."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.test import Client

from audit.control.models import ControlAuditLog
from llm.models import LLMModel, LLMPrice, PriceSource
from llm.prices.history import price_add, price_in_force, today
from llm.types import ModelPrices
from tests.config.site.forms import Browser
from tests.support.staff import make_user


@pytest.fixture
def model() -> Iterator[LLMModel]:
    made = LLMModel.objects.create(
        provider_id="openai", model_name=f"model-{uuid4().hex[:8]}", model_class="pro", is_active=False
    )
    prices = ModelPrices({"input": Decimal("0.0000001234"), "output": Decimal("0.02"), "cached_read": Decimal("0.001")})
    price_add(model=made, prices=prices, source=PriceSource.LIST)
    yield made
    made.delete()


@pytest.fixture
def superuser() -> Iterator[User]:
    user = make_user(is_superuser=True)
    yield user
    user.delete()


@pytest.fixture
def browser(superuser: User) -> Client:
    client = Browser()
    client.force_login(superuser)
    return client


def page(model: LLMModel) -> str:
    return f"/admin/llm/llmmodel/{model.pk}/set_prices/"


def form(**values: Any) -> dict[str, Any]:
    return {"valid_from": str(today()), "input": "0.5", "output": "2", **values}


def test_the_form_shows_the_prices_that_hold_with_every_digit(browser: Client, model: LLMModel) -> None:
    text = browser.get(page(model)).content.decode()
    assert 'value="0.0000001234"' in text and 'value="0.02"' in text and f'value="{today()}"' in text
    change_page = browser.get(f"/admin/llm/llmmodel/{model.pk}/change/").content.decode()
    assert page(model) in change_page
    assert "cached input 0.001" in change_page and "price list, system" in change_page and "in effect" in change_page


def test_prices_are_set_with_a_day_a_note_and_an_entry(browser: Client, model: LLMModel, superuser: User) -> None:
    later = today() + timedelta(days=30)
    long = {"long_context_over": "200000", "long_input": "1", "long_output": "3", "long_cached_read": "0.0001"}
    response = browser.post(page(model), form(valid_from=str(later), note="announced", **long), follow=True)
    assert f"The prices of {model} were saved." in response.content.decode()
    row = LLMPrice.objects.filter(model=model).latest("id")
    assert (row.valid_from, row.source, row.made_by) == (later, "hand", f"staff:{superuser.username}")
    assert row.prices == {
        "input": "0.5",
        "output": "2",
        "long_input": "1",
        "long_output": "3",
        "long_cached_read": "0.0001",
        "long_context_over": 200_000,
    }
    entry = ControlAuditLog.objects.filter(action="llm.prices.set", resource_id=str(model.pk)).get()
    assert entry.details is not None
    assert (entry.details["valid_from"], entry.details["new"]) == (str(later), row.prices)
    assert entry.details["old"] == {"input": "0.0000001234", "output": "0.02", "cached_read": "0.001"}
    text = response.content.decode()
    assert "not yet in effect" in text and "announced" in text and "input (long context) 1" in text
    # Until then nothing changes.
    held = price_in_force(model.pk)
    assert held is not None and held.source == "list"
    model.refresh_from_db()
    assert model.cost_per_1k_output_tokens == Decimal("0.02")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"input": "-1"}, "Ensure this value is greater than or equal to 0."),
        ({"input": "0.0000000000001"}, "Ensure that there are no more than 12 decimal places."),
        ({"input": "10000"}, "Ensure that there are no more than"),
        ({"input": "NaN"}, "Enter a number."),
        (
            {"valid_from": "2020-01-01"},
            "prices cannot take effect on 2020-01-01, because later ones have been in effect since",
        ),
        ({"valid_from": "31.12.2026"}, "Enter a valid date."),
        ({"valid_from": ""}, "This field is required."),
        ({"long_input": "1"}, "long-context prices need a threshold."),
        ({"long_context_over": "0"}, "Ensure this value is greater than or equal to 1."),
        ({"note": "x" * 501}, "Ensure this value has at most 500 characters"),
    ],
)
def test_bad_input_is_refused_with_one_sentence(
    browser: Client, model: LLMModel, values: dict[str, str], message: str
) -> None:
    response = browser.post(page(model), form(**values))
    assert response.status_code == 200
    assert message in response.content.decode()
    assert LLMPrice.objects.filter(model=model).count() == 1


COLUMN_REFUSALS = [
    ("-1", "A price must be at least 0. Leave the field empty if it is unknown."),
    ("0.0000001", "Ensure that there are no more than 6 decimal places."),
    ("99999", "Ensure that there are no more than 4 digits before the decimal point."),
]


@pytest.mark.parametrize(("price", "message"), COLUMN_REFUSALS)
def test_the_models_own_fields_refuse_them_too(browser: Client, model: LLMModel, price: str, message: str) -> None:
    fields = {"provider": "openai", "model_name": model.model_name, "model_class": "pro"}
    edited = {**fields, "cost_per_1k_input_tokens": price, "cost_per_1k_output_tokens": "0.02"}
    response = browser.post(f"/admin/llm/llmmodel/{model.pk}/change/", edited)
    assert response.status_code == 200
    assert response.content.decode().count(message) == 1
    assert LLMPrice.objects.filter(model=model).count() == 1


@pytest.mark.parametrize(("price", "message"), COLUMN_REFUSALS)
def test_the_list_refuses_them_too(browser: Client, model: LLMModel, price: str, message: str) -> None:
    rows = {"form-TOTAL_FORMS": "1", "form-INITIAL_FORMS": "1", "form-0-id": str(model.pk), "_save": "Save"}
    edited = {**rows, "form-0-cost_per_1k_input_tokens": price, "form-0-cost_per_1k_output_tokens": "0.02"}
    response = browser.post(f"/admin/llm/llmmodel/?q={model.model_name}", edited)
    assert response.status_code == 200
    assert message in response.content.decode()
    assert LLMPrice.objects.filter(model=model).count() == 1


def test_an_edit_of_one_column_keeps_the_other_units_exact(browser: Client, model: LLMModel) -> None:
    fields = {"provider": "openai", "model_name": model.model_name, "model_class": "pro"}
    prices = {"cost_per_1k_input_tokens": "0.000000", "cost_per_1k_output_tokens": "0.03"}
    assert browser.post(f"/admin/llm/llmmodel/{model.pk}/change/", {**fields, **prices}).status_code == 302
    held = price_in_force(model.pk)
    assert held is not None
    assert held.prices == {"input": "0.0000001234", "output": "0.03", "cached_read": "0.001"}
    assert LLMPrice.objects.filter(model=model).count() == 2


def test_a_new_models_prices_are_the_persons(browser: Client, superuser: User) -> None:
    name = f"model-{uuid4().hex[:8]}"
    fields = {"provider": "openai", "model_name": name, "model_class": "pro", "cost_per_1k_input_tokens": "0.5"}
    assert browser.post("/admin/llm/llmmodel/add/", fields).status_code == 302
    made = LLMModel.objects.get(model_name=name)
    try:
        [row] = made.prices.all()
        assert (row.prices, row.made_by) == ({"input": "0.5"}, f"staff:{superuser.username}")
        assert made.cost_per_1k_input_tokens == Decimal("0.5")
    finally:
        made.delete()


def test_who_may_not_change_models_may_not_set_prices(model: LLMModel) -> None:
    reader = make_user(is_superuser=False)
    try:
        client = Browser()
        client.force_login(reader)
        assert client.post(page(model), form()).status_code == 403
    finally:
        reader.delete()
    assert LLMPrice.objects.filter(model=model).count() == 1
