from decimal import Decimal

import pytest
from django.conf import settings

from llm import catalogue
from llm.errors import NoActiveModel, UnknownStep
from llm.models import LLMModel, LLMPrice, LLMProvider, ModelClass, StepLLMDefault
from llm.prices.history import today
from llm.prices.price_list import installed_list, listed
from llm.prices.refresh import prices_compare
from llm.selectors import pipeline, resolve_model
from llm.services import catalogue_seed, step_default_set

pytestmark = pytest.mark.usefixtures("undone")


def empty_catalogue() -> None:
    for model in (StepLLMDefault, LLMModel, LLMProvider):
        model.objects.all().delete()


class TestCatalogueSeed:
    def test_a_new_installation_has_every_provider_in_both_classes(self) -> None:
        empty_catalogue()
        report = catalogue_seed()
        assert report.providers == ("claude", "gemini", "openai", "local")
        assert len(report.models) == len(catalogue.MODELS)
        for provider in report.providers:
            for model_class in ModelClass.values:
                assert resolve_model(provider, model_class).provider_id == provider

    def test_paid_models_have_prices_and_the_local_one_is_free(self) -> None:
        empty_catalogue()
        catalogue_seed()
        for model in LLMModel.objects.exclude(provider_id="local"):
            assert model.cost_per_1k_input_tokens and model.cost_per_1k_output_tokens, model
            assert model.context_window and model.context_window >= 200_000, model
        local = LLMModel.objects.get(provider_id="local")
        assert (local.cost_per_1k_input_tokens, local.cost_per_1k_output_tokens) == (Decimal(0), Decimal(0))
        assert (local.max_output_tokens, local.context_window) == (320, 4096)

    def test_the_pipeline_runs_on_the_embedded_server(self) -> None:
        empty_catalogue()
        catalogue_seed()
        assert [(row.step, row.provider_id, row.model_class) for row in pipeline()] == [
            ("keyword_analysis", "local", "standard"),
            ("outline", "local", "standard"),
            ("draft", "local", "pro"),
            ("final", "local", "pro"),
        ]

    @pytest.mark.parametrize(("variable", "provider"), [("OPENAI_API_KEY", "openai"), ("UNRELATED", "claude")])
    def test_without_it_the_pipeline_uses_a_provider_with_a_key(
        self, variable: str, provider: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        empty_catalogue()
        monkeypatch.setattr(settings, "LOCAL_LLM_URL", "")
        monkeypatch.setenv(variable, "sk-1")
        catalogue_seed()
        assert {row.provider_id for row in pipeline()} == {provider}

    def test_steps_use_the_same_models_although_there_are_more(self) -> None:
        empty_catalogue()
        catalogue_seed()
        assert {
            (provider, model_class): resolve_model(provider, model_class).model_name
            for provider in ("claude", "gemini", "openai")
            for model_class in ModelClass.values
        } == {
            ("claude", "pro"): "claude-opus-5-5",
            ("claude", "standard"): "claude-sonnet-5-5",
            ("gemini", "pro"): "gemini-4-argon",
            ("gemini", "standard"): "gemini-3.8-flash",
            ("openai", "pro"): "gpt-6.1-sol",
            ("openai", "standard"): "gpt-6.1-terra",
        }

    def test_announced_prices_are_in_the_history(self) -> None:
        empty_catalogue()
        catalogue_seed()
        announced = {
            str(model): list(
                LLMPrice.objects.filter(model_id=model.pk, valid_from__gt=today())
                .order_by("valid_from")
                .values_list("valid_from", flat=True)
            )
            for model in LLMModel.objects.all()
        }
        listed_days = {
            str(model): [day for day, _prices in entry.to_come]
            for model in LLMModel.objects.all()
            if (entry := listed(installed_list(), model.provider_id, model.model_name))
        }
        assert {name: days for name, days in announced.items() if days} == {
            name: days for name, days in listed_days.items() if days
        }

    def test_a_second_time_it_inserts_nothing(self) -> None:
        catalogue_seed()
        report = catalogue_seed()
        assert (report.providers, report.models, report.steps) == ((), (), ())

    def test_staffs_changes_are_kept(self) -> None:
        empty_catalogue()
        catalogue_seed()
        LLMProvider.objects.filter(pk="claude").update(
            display_name="Ours", api_base_url="http://proxy", is_active=False
        )
        LLMModel.objects.filter(provider_id="openai").update(cost_per_1k_input_tokens=Decimal("9"), is_active=False)
        StepLLMDefault.objects.filter(pk="outline").delete()
        StepLLMDefault.objects.filter(pk="draft").update(provider="gemini", position=5)
        catalogue_seed()
        claude = LLMProvider.objects.get(pk="claude")
        assert (claude.display_name, claude.api_base_url, claude.is_active) == ("Ours", "http://proxy", False)
        assert set(
            LLMModel.objects.filter(provider_id="openai").values_list("cost_per_1k_input_tokens", "is_active")
        ) == {(Decimal("9"), False)}
        assert [(row.step, row.provider_id) for row in pipeline()] == [
            ("draft", "gemini"),
            ("keyword_analysis", "local"),
            ("final", "local"),
        ]

    def test_a_model_added_to_a_filled_class_is_inactive(self) -> None:
        empty_catalogue()
        catalogue_seed()
        before = resolve_model("claude", "pro")
        LLMModel.objects.filter(model_name=before.model_name).update(model_name="what-an-earlier-release-had")
        assert catalogue_seed().models == (f"claude/{before.model_name}",)
        assert not LLMModel.objects.get(model_name=before.model_name).is_active
        assert resolve_model("claude", "pro").model_name == "what-an-earlier-release-had"

    def test_every_seeded_paid_model_has_all_prices_of_the_installed_list(self) -> None:
        empty_catalogue()
        catalogue_seed()
        report = prices_compare()
        assert (report.changes, report.unknown) == ((), ("local/SmolLM2-135M-Instruct",))


class TestStepDefaultSet:
    @pytest.fixture(autouse=True)
    def key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-1")

    def test_routes_one_step_and_keeps_its_class(self) -> None:
        change = step_default_set(step="draft", provider_id="openai")
        assert change.changed
        assert (change.provider_id, change.model_class) == ("openai", change.old_model_class)
        assert change.model_name == resolve_model("openai", change.model_class).model_name
        assert StepLLMDefault.objects.get(pk="draft").provider_id == "openai"
        assert not step_default_set(step="draft", provider_id="openai").changed

    def test_an_unknown_step_is_refused_with_the_known_ones(self) -> None:
        with pytest.raises(UnknownStep, match=r"'drafd'.*keyword_analysis, outline, draft, final"):
            step_default_set(step="drafd", provider_id="openai")

    def test_a_provider_that_could_not_serve_it_is_refused(self) -> None:
        LLMModel.objects.filter(provider_id="gemini").update(is_active=False)
        with pytest.raises(NoActiveModel, match="gemini has no active model of class 'pro'"):
            step_default_set(step="draft", provider_id="gemini", model_class="pro")
        assert StepLLMDefault.objects.get(pk="draft").provider_id != "gemini"
