"""Operators' changes to the LLM catalogue: made and audited together, or not at all."""

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.db.models import Max

from audit.control.models import ControlAuditLog
from llm import routing
from llm.errors import UnknownStep
from llm.models import LLMModel, LLMProvider, StepLLMDefault
from llm.routing import catalogue_fill, model_prices_refresh, step_route
from llm.services import catalogue_seed

NewEntries = Callable[[], list[ControlAuditLog]]


@pytest.fixture(autouse=True)
def undone() -> Iterator[None]:
    """Roll back the test's changes to the control database, because all tests share its catalogue."""
    with transaction.atomic(using="default"):
        catalogue_seed()
        yield
        transaction.set_rollback(True, using="default")


@pytest.fixture
def audited() -> NewEntries:
    """Returns the entries of the control audit log that the test has added so far."""
    last = ControlAuditLog.objects.aggregate(last=Max("id"))["last"] or 0
    return lambda: list(ControlAuditLog.objects.filter(id__gt=last).order_by("id"))


def run(command: str, *arguments: str) -> Any:
    out = StringIO()
    call_command(command, *arguments, "--json", stdout=out)
    return json.loads(out.getvalue())


class TestStepRoute:
    def test_one_step_is_routed_and_audited(self, audited: NewEntries) -> None:
        (change,) = step_route(step="draft", provider_id="claude", model_class="standard")
        assert change.changed
        row = StepLLMDefault.objects.get(pk="draft")
        assert (row.provider_id, row.model_class) == ("claude", "standard")
        (entry,) = audited()
        assert (entry.action, entry.resource_type, entry.resource_id) == (
            "step_default.change",
            "step_default",
            "draft",
        )
        assert entry.details == {
            "from": {"provider": change.old_provider_id, "model_class": change.old_model_class},
            "to": {"provider": "claude", "model_class": "standard"},
        }

    def test_all_steps_keep_their_classes(self, audited: NewEntries) -> None:
        before = dict(StepLLMDefault.objects.values_list("step", "model_class"))
        step_route(step=None, provider_id="gemini")
        rows = StepLLMDefault.objects.all()
        assert {row.provider_id for row in rows} == {"gemini"}
        assert {row.step: row.model_class for row in rows} == before
        assert {entry.resource_id for entry in audited()} == set(before)

    def test_an_unchanged_route_is_not_recorded(self, audited: NewEntries) -> None:
        row = StepLLMDefault.objects.get(pk="outline")
        assert not step_route(step="outline", provider_id=row.provider_id)[0].changed
        assert audited() == []

    def test_an_unknown_step_changes_nothing(self, audited: NewEntries) -> None:
        with pytest.raises(UnknownStep):
            step_route(step="drafd", provider_id="claude")
        assert audited() == []

    def test_without_its_entry_the_change_does_not_happen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(**_: object) -> None:
            raise OSError("the log is full")

        before = dict(StepLLMDefault.objects.values_list("step", "provider_id"))
        monkeypatch.setattr(routing, "record", refuse)
        with pytest.raises(OSError, match="full"):
            step_route(step=None, provider_id="openai")
        assert dict(StepLLMDefault.objects.values_list("step", "provider_id")) == before

    def test_the_command_warns_of_a_missing_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        document = run("step_route", "--step", "final", "--provider", "openai")
        (step,) = document["steps"]
        assert (step["step"], step["provider"], step["changed"]) == ("final", "openai", True)
        assert "OPENAI_API_KEY" in document["warning"]
        monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
        assert run("step_route", "--all", "--provider", "openai", "--model-class", "standard")["warning"] is None

    def test_the_command_shows_old_and_new_routes(self, capsys: pytest.CaptureFixture[str]) -> None:
        call_command("step_route", "--step", "final", "--provider", "claude", "--model-class", "pro")
        captured = capsys.readouterr()
        assert "final" in captured.out and "claude (pro)" in captured.out
        assert "ANTHROPIC_API_KEY" in captured.err

    def test_the_command_refuses_in_one_sentence(self) -> None:
        with pytest.raises(CommandError, match="There is no LLM provider 'nobody'"):
            call_command("step_route", "--all", "--provider", "nobody")

    def test_a_provider_without_a_client_is_refused_and_nothing_changes(self, audited: NewEntries) -> None:
        LLMProvider.objects.create(pk="mistral", display_name="Mistral", api_base_url="https://api.mistral.ai/v1")
        for model_class in ("pro", "standard"):
            LLMModel.objects.create(provider_id="mistral", model_name=f"m-{model_class}", model_class=model_class)
        before = dict(StepLLMDefault.objects.values_list("step", "provider_id"))
        with pytest.raises(CommandError, match=r"no LLM provider 'mistral'.*claude, gemini, openai, local") as refusal:
            call_command("step_route", "--all", "--provider", "mistral")
        assert refusal.value.returncode == 1
        assert dict(StepLLMDefault.objects.values_list("step", "provider_id")) == before
        assert audited() == []

    def test_a_provider_that_may_not_be_called_is_refused_and_nothing_changes(self, audited: NewEntries) -> None:
        LLMProvider.objects.filter(pk="gemini").update(api_base_url="https://elsewhere.example")
        before = dict(StepLLMDefault.objects.values_list("step", "provider_id"))
        with pytest.raises(CommandError, match=r"elsewhere\.example, which is not an allowed host"):
            call_command("step_route", "--all", "--provider", "gemini")
        assert dict(StepLLMDefault.objects.values_list("step", "provider_id")) == before
        assert audited() == []

    @pytest.mark.parametrize("arguments", [[], ["--all", "--step", "x"]])
    def test_the_command_requires_one_step_or_all(self, arguments: list[str]) -> None:
        with pytest.raises(CommandError):
            call_command("step_route", "--provider", "local", *arguments)


class TestModelPricesRefresh:
    @pytest.fixture(autouse=True)
    def edited(self) -> None:
        LLMModel.objects.filter(model_name="claude-opus-5-5").update(cost_per_1k_input_tokens=Decimal("0.5"))

    def test_changes_are_audited_with_both_prices(self, audited: NewEntries) -> None:
        model_prices_refresh()
        (entry,) = audited()
        assert (entry.action, entry.resource_id) == ("llm.prices.refresh", "prices")
        assert entry.details == {
            "changes": [
                {
                    "provider": "claude",
                    "model": "claude-opus-5-5",
                    "old": ["0.500000", "0.020000"],
                    "new": ["0.004000", "0.020000"],
                }
            ]
        }

    def test_a_second_time_nothing_is_recorded(self, audited: NewEntries) -> None:
        model_prices_refresh()
        model_prices_refresh()
        assert len(audited()) == 1

    def test_a_dry_run_records_nothing(self, audited: NewEntries) -> None:
        document = run("llm_prices", "--dry-run")
        assert document["dry_run"] is True
        assert document["changes"][0]["new"] == {"input": "0.004000", "output": "0.020000"}
        assert audited() == []

    def test_the_command_shows_old_and_new_prices(self, capsys: pytest.CaptureFixture[str]) -> None:
        call_command("llm_prices")
        call_command("llm_prices")
        out = capsys.readouterr().out
        assert "0.500000 / 0.020000" in out and "0.004000 / 0.020000" in out
        assert "All prices match the list." in out
        assert "local/SmolLM2-135M-Instruct" in out


class TestCatalogueFill:
    def test_records_what_it_inserted_once(self, audited: NewEntries) -> None:
        LLMModel.objects.filter(provider_id="gemini").delete()
        report = catalogue_fill()
        catalogue_fill()
        (entry,) = audited()
        assert entry.action == "llm.catalogue.seed"
        assert entry.details == {"providers": [], "models": list(report.models), "steps": []}
