"""The page that compares the prices with the price list, and imports exactly what it showed."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models import Max
from django.test import Client

from audit.control.models import ControlAuditLog
from config.base.approvals import KINDS
from llm.errors import PricesUnavailable
from llm.models import LLMModel, LLMPrice, PriceSource
from llm.prices import refresh
from llm.prices.history import price_add, prices_in_force
from llm.prices.price_list import installed_list
from llm.prices.refresh import prices_apply
from llm.types import ModelPrices
from tests.support.staff import give_role, make_user

pytestmark = pytest.mark.usefixtures("undone")

PAGE = "/admin/llm/llmmodel/import_prices/"
MODELS = "/admin/llm/llmmodel/"
OPUS = "claude/claude-opus-5-5"
SOL = "openai/gpt-6.1-sol"
OUTDATED = "The comparison has changed since it was shown, so nothing was imported."
NewEntries = Callable[[], list[ControlAuditLog]]


@pytest.fixture(autouse=True)
def as_listed(undone: None) -> None:
    """Set the prices to the price list's, since other tests may have changed them."""
    prices_apply(overwrite=True)


@pytest.fixture
def entries(as_listed: None) -> NewEntries:
    """Return a function that returns the audit entries of the imports that the test has made so far, oldest first."""
    last = ControlAuditLog.objects.aggregate(last=Max("id"))["last"] or 0
    found = ControlAuditLog.objects.filter(id__gt=last, action="llm.prices.refresh").order_by("id")
    return lambda: list(found.all())


@pytest.fixture
def editor() -> Iterator[User]:
    user = make_user(is_superuser=False)
    give_role(user, "editor")
    yield user
    user.delete()


@pytest.fixture
def client(editor: User) -> Client:
    client = Client()
    client.force_login(editor)
    return client


def model_of(name: str) -> LLMModel:
    provider_id, _, model_name = name.partition("/")
    return LLMModel.objects.get(provider_id=provider_id, model_name=model_name)


def price(name: str, source: PriceSource, **units: str) -> None:
    prices = ModelPrices({unit: Decimal(text) for unit, text in units.items()})
    price_add(model=model_of(name), prices=prices, source=source)


def by_hand(name: str) -> None:
    price(name, PriceSource.HAND, input="0.5", output="0.5")


def from_list(name: str) -> None:
    price(name, PriceSource.LIST, input="0.25", output="0.02")


def shown(client: Client, **query: str) -> tuple[dict[str, Any], str]:
    """Open the page; return what its form would send if nothing is ticked, and the page's HTML, unescaped."""
    response = client.get(PAGE, query)
    assert response.status_code == 200
    report = response.context["report"]
    form = {"source": response.context["source"], "comparison": report.digest}
    return form, unescape(response.content.decode())


def post(client: Client, form: dict[str, Any]) -> str:
    response = client.post(PAGE, form, follow=True)
    assert response.status_code == 200
    return unescape(response.content.decode())


def input_price(name: str) -> str:
    return str(prices_in_force(model_of(name).pk).as_document()["input"])


def test_the_list_of_models_links_the_page(client: Client) -> None:
    assert PAGE in client.get(MODELS).content.decode()


def test_without_a_difference_there_is_nothing_to_import(client: Client) -> None:
    _form, text = shown(client)
    assert "No price differs from the list." in text
    assert "Not in the list, or without usable prices there: local/SmolLM2-135M-Instruct" in text
    assert ">Import<" not in text.replace("\n", "").replace("  ", "")


def test_it_shows_old_and_new_prices_of_each_unit_and_changes_nothing(client: Client, entries: NewEntries) -> None:
    from_list(OPUS)
    by_hand(SOL)
    LLMModel.objects.create(provider_id="gemini", model_name="gemini-2.0-flash", model_class="standard")
    rows = LLMPrice.objects.count()
    _form, text = shown(client)
    cells = text.replace("<strong>", "").replace("</strong>", "")
    number = '<td class="seo-gen-number">'
    assert f"<td>input</td>\n{' ' * 52}{number}0.25</td>{number}0.004</td>" in cells
    assert f"{number}-</td>{number}0.0002</td>" in cells
    assert f"Replace the prices of {SOL} that were set by hand" in text
    assert f"Replace the prices of {OPUS}" not in text
    assert "long context above (tokens)" in text and f"{number}272,000</td>" in cells
    assert "new: no price so far" in text
    assert "The import will mark these models as being retired: gemini/gemini-2.0-flash" in text
    assert (LLMPrice.objects.count(), entries()) == (rows, [])


def test_it_imports_what_it_showed_and_keeps_prices_set_by_hand(
    client: Client, editor: User, entries: NewEntries
) -> None:
    from_list(OPUS)
    by_hand(SOL)
    LLMModel.objects.create(provider_id="gemini", model_name="gemini-2.0-flash", model_class="standard")
    form, _text = shown(client)
    assert "Prices of 2 models were imported." in post(client, form)
    assert (input_price(OPUS), input_price(SOL)) == ("0.004", "0.5")
    assert model_of("gemini/gemini-2.0-flash").is_deprecated
    [entry] = entries()
    assert entry.user_id == f"staff:{editor.username}"
    assert entry.details is not None and entry.details["deprecation"] == ["gemini/gemini-2.0-flash"]
    assert [change["model"] for change in entry.details["changes"]] == ["claude-opus-5-5", "gemini-2.0-flash"]
    row = LLMPrice.objects.filter(model=model_of(OPUS)).latest("id")
    assert (row.source, row.made_by) == (PriceSource.LIST, f"staff:{editor.username}")


def test_only_ticked_models_lose_prices_set_by_hand(client: Client) -> None:
    by_hand(SOL)
    by_hand(OPUS)
    form, _text = shown(client)
    assert "Prices of 1 model were imported." in post(client, {**form, "overwrite": [SOL]})
    assert (input_price(OPUS), input_price(SOL)) == ("0.5", "0.002")
    form, _text = shown(client)
    assert "Nothing was imported: all these prices were set by hand and are kept." in post(client, form)
    assert input_price(OPUS) == "0.5"


def test_changed_marks_alone_are_reported_as_such(client: Client) -> None:
    LLMModel.objects.filter(pk=model_of(OPUS).pk).update(is_deprecated=True)
    form, _text = shown(client)
    text = post(client, form)
    assert "No price was imported, but “being retired” was changed for 1 model." in text
    assert "Prices of 0 models" not in text and not model_of(OPUS).is_deprecated


@pytest.mark.parametrize("changes", [by_hand, from_list])
def test_a_change_in_between_is_refused(client: Client, entries: NewEntries, changes: Callable[[str], None]) -> None:
    from_list(OPUS)
    form, _text = shown(client)
    changes(SOL)
    text = post(client, form)
    assert OUTDATED in text and text.count("Check the new comparison and import it.") == 1
    # The page with the new comparison.
    assert SOL in text and "Differences" in text
    assert (input_price(OPUS), entries()) == ("0.25", [])


@pytest.mark.parametrize("comparison", [{}, {"comparison": ""}, {"comparison": "0" * 64}])
def test_a_form_that_showed_nothing_is_refused(client: Client, entries: NewEntries, comparison: dict[str, str]) -> None:
    from_list(OPUS)
    assert OUTDATED in post(client, {"source": "installed", **comparison})
    assert (input_price(OPUS), entries()) == ("0.25", [])


def test_todays_list_is_fetched_again_and_refused_if_it_changed(
    client: Client, monkeypatch: pytest.MonkeyPatch, entries: NewEntries
) -> None:
    lists = [installed_list()]
    monkeypatch.setattr(refresh, "current_list", lambda: lists[0])
    from_list(OPUS)
    form, _text = shown(client, source="online")
    assert form["source"] == "online"
    assert "Prices of 1 model were imported." in post(client, form)
    from_list(OPUS)
    form, _text = shown(client, source="online")
    # A list without any model.
    lists[0] = type(lists[0])(providers=[], from_auto_update=True)
    assert OUTDATED in post(client, form)
    assert (input_price(OPUS), len(entries())) == ("0.25", 1)


def test_a_list_that_cannot_be_fetched_is_said_and_the_installed_one_is_shown(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable() -> None:
        raise PricesUnavailable("https://prices.example", "no route")

    monkeypatch.setattr(refresh, "current_list", unreachable)
    response = client.get(PAGE, {"source": "online"}, follow=True)
    assert response.redirect_chain == [(PAGE, 302)]
    text = response.content.decode()
    assert "no route. Use “The list that came with the product”." in text and "--online" not in text
    assert response.context["source"] == "installed"


def test_it_needs_the_right_to_set_prices(client: Client, entries: NewEntries) -> None:
    from_list(OPUS)
    form, _text = shown(client)
    for role in ("viewer", "operator", "reviewer"):
        user = make_user(is_superuser=False)
        give_role(user, role)
        client.force_login(user)
        assert PAGE not in client.get(MODELS).content.decode()
        assert client.get(PAGE).status_code == client.post(PAGE, form).status_code == 403
        user.delete()
    assert (input_price(OPUS), entries()) == ("0.25", [])


def test_no_second_person_is_needed_as_for_the_command(client: Client, settings: Any) -> None:
    """No one chooses the list's prices: the command imports them without an approval, and so does the page."""
    settings.TWO_PERSON_OPERATIONS = list(KINDS)
    from_list(OPUS)
    prices_apply(models=[OPUS])
    from_list(OPUS)
    form, _text = shown(client)
    assert "Prices of 1 model were imported." in post(client, form)
