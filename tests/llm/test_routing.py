"""Operators' changes to the LLM catalogue: made and audited together, or not at all."""

import json
import os
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.db.models import Max

from audit.control.models import ControlAuditLog
from llm import routing
from llm.errors import UnknownStep
from llm.in_use import ModelInPipeline, ProviderInPipeline, require_model_unused, require_provider_unused
from llm.keys import KEY_VARIABLES
from llm.models import LLMModel, LLMProvider, StepLLMDefault
from llm.routing import catalogue_fill, step_route
from llm.selectors import resolve_model
from llm.services import catalogue_seed

NewEntries = Callable[[], list[ControlAuditLog]]
NO_KEY = "The environment variable of the provider %s is not set here; the workers must have it."


@pytest.fixture(autouse=True)
def undone() -> Iterator[None]:
    """Seed the catalogue, and roll back all changes to the control database after the test, since tests share it."""
    with transaction.atomic(using="default"):
        catalogue_seed()
        yield
        transaction.set_rollback(True, using="default")


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in KEY_VARIABLES.values():
        monkeypatch.setenv(variable, "sk-test")


@pytest.fixture
def audited() -> NewEntries:
    """Return a function that returns the entries that the test has added to the control audit log so far."""
    last = ControlAuditLog.objects.aggregate(last=Max("id"))["last"] or 0
    return lambda: list(ControlAuditLog.objects.filter(id__gt=last).order_by("id"))


def routes() -> dict[str, tuple[str, bool]]:
    rows = StepLLMDefault.objects.values_list("step", "provider_id", "key_at_workers")
    return {step: (provider, key_at_workers) for step, provider, key_at_workers in rows}


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

    def test_a_provider_whose_key_is_missing_is_refused_and_nothing_changes(
        self, audited: NewEntries, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("OPENAI_API_KEY")
        before = routes()
        with pytest.raises(CommandError, match=r"variable OPENAI_API_KEY, which is not set.* --force") as refusal:
            call_command("step_route", "--all", "--provider", "openai")
        assert (refusal.value.returncode, refusal.value.code) == (1, "llm_key_missing")  # type: ignore[attr-defined]
        assert (routes(), audited()) == (before, [])

    def test_force_accepts_that_only_the_workers_have_the_key(
        self, audited: NewEntries, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("OPENAI_API_KEY")
        document = run("step_route", "--step", "final", "--provider", "openai", "--force")
        (step,) = document["steps"]
        assert (step["step"], step["provider"], step["changed"]) == ("final", "openai", True)
        assert document["warning"] == NO_KEY % "openai"
        assert StepLLMDefault.objects.get(pk="final").key_at_workers
        (entry,) = audited()
        assert entry.details is not None
        assert entry.details["to"] == {"provider": "openai", "model_class": "pro", "key_at_workers": True}
        monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
        assert run("step_route", "--all", "--provider", "openai", "--force")["warning"] is None
        assert not StepLLMDefault.objects.filter(key_at_workers=True).exists()

    @pytest.mark.parametrize(
        ("break_it", "code"),
        [
            (lambda: LLMProvider.objects.filter(pk="gemini").update(is_active=False), "llm_provider_inactive"),
            (lambda: LLMModel.objects.filter(provider_id="gemini").update(is_active=False), "llm_model_not_found"),
            (lambda: LLMProvider.objects.filter(pk="gemini").update(key_variable="X"), "llm_key_variable_invalid"),
            (lambda: LLMProvider.objects.filter(pk="gemini").update(api_base_url="http://x"), "llm_url_insecure"),
            (lambda: os.environ.update(GEMINI_API_KEY="two words"), "llm_key_invalid"),
        ],
    )
    def test_nothing_but_a_missing_key_can_be_forced(
        self, audited: NewEntries, break_it: Callable[[], object], code: str
    ) -> None:
        break_it()
        before = routes()
        with pytest.raises(CommandError) as refusal:
            call_command("step_route", "--all", "--provider", "gemini", "--force")
        assert refusal.value.code == code  # type: ignore[attr-defined]
        assert (routes(), audited()) == (before, [])

    def test_all_steps_change_or_none(self, audited: NewEntries) -> None:
        # It has models of both classes, so that each serves its own; only the later steps need the other.
        LLMModel.objects.filter(provider_id="gemini", model_class="pro").update(is_active=False)
        before = routes()
        with pytest.raises(CommandError, match="gemini has no active model of class 'pro'"):
            call_command("step_route", "--all", "--provider", "gemini", "--force")
        assert (routes(), audited()) == (before, [])

    def test_the_command_shows_old_and_new_routes(self, capsys: pytest.CaptureFixture[str]) -> None:
        call_command("step_route", "--step", "final", "--provider", "claude", "--model-class", "pro")
        captured = capsys.readouterr()
        assert "final" in captured.out and "claude (pro)" in captured.out
        assert captured.err == ""

    def test_the_command_refuses_in_one_sentence(self) -> None:
        with pytest.raises(CommandError, match="There is no LLM provider 'nobody'"):
            call_command("step_route", "--all", "--provider", "nobody")

    def test_a_provider_that_no_key_may_be_sent_to_is_refused_and_nothing_changes(self, audited: NewEntries) -> None:
        LLMProvider.objects.create(pk="mistral", display_name="Mistral", api_base_url="https://api.mistral.ai/v1")
        for model_class in ("pro", "standard"):
            LLMModel.objects.create(provider_id="mistral", model_name=f"m-{model_class}", model_class=model_class)
        before = dict(StepLLMDefault.objects.values_list("step", "provider_id"))
        with pytest.raises(CommandError, match=r"to api\.mistral\.ai, which is not an allowed") as refusal:
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


def fallbacks() -> dict[str, list[str]]:
    rows = StepLLMDefault.objects.values_list("step", "fallbacks")
    return {step: [f"{row['provider']}:{row['model_class']}" for row in found] for step, found in rows}


class TestFallbacks:
    def test_they_are_set_in_order_audited_kept_and_removed(self, audited: NewEntries) -> None:
        route = ("--step", "draft", "--provider", "openai", "--model-class", "pro")
        run("step_route", *route)
        (step,) = run("step_route", *route, "--fallback", "claude", "--fallback", "gemini:standard")["steps"]
        expected = [{"provider": "claude", "model_class": "pro"}, {"provider": "gemini", "model_class": "standard"}]
        assert (step["fallbacks"], step["changed"]) == (expected, True)
        assert fallbacks()["draft"] == ["claude:pro", "gemini:standard"]
        assert not run("step_route", *route)["steps"][0]["changed"]
        assert fallbacks()["draft"] == ["claude:pro", "gemini:standard"]
        run("step_route", *route, "--no-fallback")
        assert fallbacks()["draft"] == []
        bare = {"provider": "openai", "model_class": "pro"}
        full = {**bare, "fallbacks": ["claude:pro", "gemini:standard"]}
        _first, added, removed = (entry.details for entry in audited())
        assert (added, removed) == ({"from": bare, "to": full}, {"from": full, "to": bare})

    def test_each_step_of_all_gets_its_own_class(self, capsys: pytest.CaptureFixture[str]) -> None:
        call_command("step_route", "--all", "--provider", "openai", "--fallback", "claude")
        classes = StepLLMDefault.objects.values_list("step", "model_class")
        assert fallbacks() == {step: [f"claude:{model_class}"] for step, model_class in classes}
        assert "fallbacks" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("fallback", "code"),
        [
            ("nobody", "llm_provider_not_found"),
            ("claude:big", "llm_model_class_not_found"),
            ("gemini:pro", "llm_model_not_found"),
            ("openai:pro", "llm_key_missing"),
            ("", "llm_provider_not_found"),
        ],
    )
    def test_one_that_cannot_run_is_refused_and_nothing_changes(
        self, audited: NewEntries, fallback: str, code: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        LLMModel.objects.filter(provider_id="gemini", model_class="pro").update(is_active=False)
        monkeypatch.delenv("OPENAI_API_KEY")
        before = routes()
        with pytest.raises(CommandError) as refusal:
            call_command("step_route", "--all", "--provider", "claude", "--fallback", "claude", "--fallback", fallback)
        assert refusal.value.code == code  # type: ignore[attr-defined]
        assert (routes(), audited(), set(map(tuple, fallbacks().values()))) == (before, [], {()})

    def test_a_missing_key_can_be_forced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("OPENAI_API_KEY")
        route = ("--step", "draft", "--provider", "claude", "--model-class", "pro")
        document = run("step_route", *route, "--fallback", "openai:pro", "--force")
        assert document["warning"] == NO_KEY % "openai"
        assert (routes()["draft"], fallbacks()["draft"]) == (("claude", True), ["openai:pro"])
        # The mark stays as long as it is needed.
        assert not run("step_route", *route)["steps"][0]["changed"]
        run("step_route", *route, "--no-fallback")
        assert routes()["draft"] == ("claude", False)

    def test_the_warning_names_every_missing_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for variable in ("OPENAI_API_KEY", "GEMINI_API_KEY"):
            monkeypatch.delenv(variable)
        document = run("step_route", "--all", "--provider", "gemini", "--fallback", "openai", "--force")
        said = "The environment variables of the providers gemini, openai are not set here; the workers must have them."
        assert document["warning"] == said

    def test_the_provider_of_one_cannot_be_deleted(self) -> None:
        run("step_route", "--step", "draft", "--provider", "claude", "--fallback", "gemini")
        with pytest.raises(ProviderInPipeline, match="uses the LLM provider gemini for draft"):
            require_provider_unused(LLMProvider.objects.get(pk="gemini"))

    def test_the_model_of_one_cannot_be_deleted(self) -> None:
        run("step_route", "--step", "draft", "--provider", "claude", "--fallback", "gemini:pro")
        used = resolve_model("gemini", "pro").model_name
        with pytest.raises(ModelInPipeline, match=f"New runs may use the model {used} of gemini for draft"):
            require_model_unused(LLMModel.objects.get(provider_id="gemini", model_name=used))
        unused = resolve_model("gemini", "standard").model_name
        require_model_unused(LLMModel.objects.get(provider_id="gemini", model_name=unused))


class TestCatalogueFill:
    def test_records_what_it_inserted_once(self, audited: NewEntries) -> None:
        LLMModel.objects.filter(provider_id="gemini").delete()
        report = catalogue_fill()
        catalogue_fill()
        (entry,) = audited()
        assert entry.action == "llm.catalogue.seed"
        assert entry.details == {"providers": [], "models": list(report.models), "steps": []}
