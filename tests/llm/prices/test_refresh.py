"""`llm prices`: how prices differ from the price list, and which prices of the list are applied."""

import json
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db.models import Max
from genai_prices.data_snapshot import DataSnapshot

from audit.control.models import ControlAuditLog
from llm.errors import PriceByHand, UnknownModel
from llm.models import LLMModel, LLMPrice, PriceSource, StepLLMDefault
from llm.prices import refresh
from llm.prices.history import price_add, prices_in_force, today
from llm.prices.price_list import current_list
from llm.prices.refresh import apply_from, compare_with, prices_apply, prices_compare
from llm.types import ModelPrices
from tests.llm.wire import Answer, WireServer

pytestmark = pytest.mark.usefixtures("undone")

OPUS = "claude/claude-opus-5-5"
SOL = "openai/gpt-6.1-sol"
NewEntries = Callable[[], list[ControlAuditLog]]


@pytest.fixture(autouse=True)
def as_listed(undone: None) -> None:
    """Set the price list's prices, since other tests may have changed them."""
    prices_apply(overwrite=True)


@pytest.fixture
def audited() -> NewEntries:
    """Return a function that returns the entries that the test has added to the control audit log so far."""
    last = ControlAuditLog.objects.aggregate(last=Max("id"))["last"] or 0
    return lambda: list(ControlAuditLog.objects.filter(id__gt=last).order_by("id"))


def model_of(name: str) -> LLMModel:
    provider_id, _, model_name = name.partition("/")
    return LLMModel.objects.get(provider_id=provider_id, model_name=model_name)


def by_hand(name: str) -> None:
    LLMModel.objects.filter(pk=model_of(name).pk).update(cost_per_1k_input_tokens=Decimal("0.5"))


def from_list(name: str) -> None:
    """Give the model a price from an older list."""
    prices = ModelPrices({"input": Decimal("0.25"), "output": Decimal("0.02")})
    price_add(model=model_of(name), prices=prices, source=PriceSource.LIST)


def run(*arguments: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    call_command("llm_prices", *arguments, "--json")
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


class TestCompare:
    def test_nothing_differs_in_a_new_installation(self) -> None:
        report = prices_compare()
        assert report.changes == () and SOL in report.unchanged
        assert report.unknown == ("local/SmolLM2-135M-Instruct",)

    def test_it_changes_nothing(self, audited: NewEntries, capsys: pytest.CaptureFixture[str]) -> None:
        by_hand(SOL)
        rows = LLMPrice.objects.count()
        document = run(capsys=capsys)
        [change] = document["changes"]
        assert document["dry_run"] is True
        assert (change["by_hand"], change["outcome"], change["valid_from"]) == (True, "listed", str(today()))
        assert (change["old"]["input"], change["new"]["input"]) == ("0.5", "0.002")
        assert change["new"]["long_context_over"] == 272_000
        assert run("--apply", "--all", "--dry-run", capsys=capsys)["dry_run"] is True
        assert (LLMPrice.objects.count(), audited()) == (rows, [])

    def test_a_threshold_is_not_called_a_price(self, capsys: pytest.CaptureFixture[str]) -> None:
        LLMPrice.objects.create(
            model=model_of(SOL), valid_from=today(), prices={"input": "0.5"}, source=PriceSource.EARLIER, made_by="test"
        )
        call_command("llm_prices")
        out = capsys.readouterr().out
        assert "long context above (tokens)" in out and "long_context_over" not in out

    def test_the_table_has_a_line_for_each_unit(self, capsys: pytest.CaptureFixture[str]) -> None:
        from_list(OPUS)
        call_command("llm_prices")
        out = capsys.readouterr().out
        lines = [line.split() for line in out.splitlines()]
        assert [OPUS, "now", "input", "0.25", "0.004"] in lines
        assert ["cached_read", "-", "0.0002"] in lines
        assert "To apply them, pass --apply with either --model or --all, and without --dry-run." in out
        assert "Not in the list, or without usable prices there: local/SmolLM2-135M-Instruct" in out

    def test_prices_of_an_earlier_release_are_by_hand_if_they_were_never_listed(self) -> None:
        for name, price in ((OPUS, "0.004"), (SOL, "0.5")):
            model = model_of(name)
            document = {"input": price, "output": str(prices_in_force(model.pk).column("output"))}
            LLMPrice.objects.create(
                model=model, valid_from=today(), prices=document, source=PriceSource.EARLIER, made_by="migration"
            )
        assert {change.name: change.by_hand for change in prices_compare().changes} == {OPUS: False, SOL: True}


class TestApply:
    def test_chosen_models_get_the_lists_prices(self, audited: NewEntries) -> None:
        from_list(OPUS)
        from_list(SOL)
        report = prices_apply(models=[OPUS])
        assert {change.name: change.outcome for change in report.changes} == {OPUS: "applied", SOL: "listed"}
        assert prices_in_force(model_of(OPUS).pk).units["cached_read"] == Decimal("0.0002")
        assert model_of(OPUS).cost_per_1k_input_tokens == Decimal("0.004")
        assert model_of(SOL).cost_per_1k_input_tokens == Decimal("0.25")
        [entry] = audited()
        assert (entry.action, entry.resource_id) == ("llm.prices.refresh", "prices")
        assert entry.details is not None
        [change] = entry.details["changes"]
        assert (change["model"], change["old"]) == ("claude-opus-5-5", {"input": "0.25", "output": "0.02"})
        assert change["new"]["input"] == "0.004" and change["valid_from"] == str(today())

    def test_a_second_time_nothing_is_recorded(self, audited: NewEntries) -> None:
        from_list(OPUS)
        prices_apply()
        assert prices_apply().changes == ()
        assert len(audited()) == 1

    def test_prices_made_by_hand_are_kept_and_named(self, capsys: pytest.CaptureFixture[str]) -> None:
        by_hand(SOL)
        from_list(OPUS)
        call_command("llm_prices", "--apply", "--all")
        out = capsys.readouterr().out
        assert "kept: set by hand" in out and "--overwrite replaces them" in out
        assert model_of(SOL).cost_per_1k_input_tokens == Decimal("0.5")
        assert model_of(OPUS).cost_per_1k_input_tokens == Decimal("0.004")

    def test_a_named_model_with_such_prices_is_refused(self, audited: NewEntries) -> None:
        by_hand(SOL)
        from_list(OPUS)
        with pytest.raises(PriceByHand, match=f"{SOL} were set by hand. Pass --overwrite") as caught:
            prices_apply(models=[OPUS, SOL])
        assert caught.value.code == "llm_price_by_hand"
        assert model_of(OPUS).cost_per_1k_input_tokens == Decimal("0.25")
        assert audited() == []
        prices_apply(models=[SOL], overwrite=True)
        assert model_of(SOL).cost_per_1k_input_tokens == Decimal("0.002")

    def test_an_unknown_model_is_refused(self) -> None:
        with pytest.raises(UnknownModel, match=r"no model 'openai/ours'.*claude/claude-opus-5-5"):
            prices_apply(models=["openai/ours"])

    @pytest.mark.parametrize("arguments", [["--apply"], ["--all"], ["--overwrite"], ["--model", OPUS]])
    def test_half_a_command_is_wrong_usage(self, arguments: list[str]) -> None:
        with pytest.raises(CommandError) as caught:
            call_command("llm_prices", *arguments)
        assert caught.value.returncode == 2

    def test_today_and_later_are_applied_together(self, server: WireServer) -> None:
        later = today() + timedelta(days=30)
        price_list = fetched(server, later, now=1, then=3)
        model = LLMModel.objects.create(provider_id="openai", model_name="m", model_class="pro")
        changes = [change for change in compare_with(price_list).changes if change.name == "openai/m"]
        assert [change.valid_from for change in changes] == [today(), later]
        apply_from(price_list, models=["openai/m"], overwrite=False)
        rows = LLMPrice.objects.filter(model=model).order_by("id")
        assert [(row.valid_from, row.prices["input"], row.source) for row in rows] == [
            (today(), "0.001", "list"),
            (later, "0.003", "list"),
        ]
        assert model_of("openai/m").cost_per_1k_input_tokens == Decimal("0.001")
        # The list has changed its mind about the later price.
        apply_from(fetched(server, later, now=1, then=1), models=["openai/m"], overwrite=False)
        assert [row.prices["input"] for row in rows.all()] == ["0.001", "0.003", "0.001"]

    def test_todays_list_is_fetched_on_demand(
        self, server: WireServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        LLMModel.objects.create(provider_id="openai", model_name="m", model_class="pro")
        price_list = fetched(server, today() + timedelta(days=1), now=1, then=2)
        monkeypatch.setattr(refresh, "current_list", lambda: price_list)
        document = run("--online", "--apply", "--model", "openai/m", capsys=capsys)
        assert [change["outcome"] for change in document["changes"]] == ["applied", "applied"]
        assert OPUS in document["unknown"]


class TestRetirement:
    def test_the_list_says_which_models_are_being_retired(
        self, audited: NewEntries, capsys: pytest.CaptureFixture[str]
    ) -> None:
        LLMModel.objects.create(provider_id="gemini", model_name="gemini-2.0-flash", model_class="standard")
        StepLLMDefault.objects.filter(pk="draft").update(provider="gemini", model_class="standard")
        assert run(capsys=capsys)["deprecated"] == ["gemini/gemini-2.0-flash"]
        assert not model_of("gemini/gemini-2.0-flash").is_deprecated
        document = run("--apply", "--model", "gemini/gemini-2.0-flash", capsys=capsys)
        assert model_of("gemini/gemini-2.0-flash").is_deprecated
        assert document["retiring"] == [
            {
                "step": "draft",
                "message": "According to the price list, which states no date, model gemini/gemini-2.0-flash"
                " is being retired or has been.",
            }
        ]
        [entry] = audited()
        assert entry.details is not None and entry.details["deprecation"] == ["gemini/gemini-2.0-flash"]

    @pytest.mark.parametrize(
        ("days", "message"), [(0, "was retired by its provider on"), (1, "will be retired by its provider on")]
    )
    def test_steps_with_such_a_model_are_named(
        self, days: int, message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        day = today() + timedelta(days=days)
        LLMModel.objects.filter(provider_id="openai", model_class="pro").update(retires_on=day)
        call_command("step_route", "--step", "draft", "--provider", "openai", "--model-class", "pro", "--force")
        assert f"Step draft: Model {SOL} {message} {day}." in capsys.readouterr().err
        call_command("llm_prices")
        assert f"Step draft: Model {SOL} {message} {day}." in capsys.readouterr().err

    def test_steps_with_such_a_fallback_are_named(self, capsys: pytest.CaptureFixture[str]) -> None:
        LLMModel.objects.filter(provider_id="openai", model_class="pro").update(retires_on=today())
        call_command(
            *("step_route", "--step", "draft", "--provider", "claude", "--model-class", "pro"),
            *("--fallback", "openai:pro", "--fallback", "openai:pro", "--force"),
        )
        warnings = capsys.readouterr().err
        assert warnings.count(f"Step draft: Model {SOL} was retired by its provider on {today()}.") == 1


def fetched(server: WireServer, later: date, *, now: int, then: int) -> DataSnapshot:
    """Fetch a list in which a million input tokens of the model "m" cost `now`, but `then` from the day `later` on."""
    prices = [
        {"prices": {"input_mtok": now, "output_mtok": 1}},
        {"constraint": {"start_date": str(later)}, "prices": {"input_mtok": then, "output_mtok": 1}},
    ]
    models = [{"id": "m", "match": {"equals": "m"}, "prices": prices}]
    server.answer = Answer.of([{"id": "openai", "name": "OpenAI", "api_pattern": "x", "models": models}])
    return current_list(server.url)
