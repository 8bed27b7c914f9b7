from decimal import Decimal

import pytest
from django.conf import settings

from llm import catalogue
from llm.errors import NoActiveModel, PricesUnavailable, UnknownStep
from llm.models import LLMModel, LLMProvider, ModelClass, StepLLMDefault
from llm.prices import current_list, listed
from llm.selectors import pipeline, resolve_model
from llm.services import catalogue_seed, prices_refresh, step_default_set
from llm.types import PriceChange, Prices
from tests.llm.wire import Answer, WireServer

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

    def test_every_seeded_paid_model_is_in_the_installed_price_list(self) -> None:
        for seed in catalogue.MODELS:
            if seed.provider_id != "local":
                model = LLMModel.objects.get(provider_id=seed.provider_id, model_name=seed.model_name)
                assert str(model) not in prices_refresh(dry_run=True).unknown


class TestStepDefaultSet:
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
        with pytest.raises(NoActiveModel, match="gemini has no active model 'pro'"):
            step_default_set(step="draft", provider_id="gemini", model_class="pro")
        assert StepLLMDefault.objects.get(pk="draft").provider_id != "gemini"


class TestPricesRefresh:
    @pytest.fixture
    def edited(self) -> LLMModel:
        """A model whose price differs from the list's, which is 2 USD per million, then a tier of 4."""
        LLMModel.objects.filter(model_name="gpt-6.1-sol").update(cost_per_1k_input_tokens=Decimal("0.5"))
        return LLMModel.objects.get(model_name="gpt-6.1-sol")

    def test_sets_the_lists_price_per_thousand_of_the_base_tier(self, edited: LLMModel) -> None:
        report = prices_refresh()
        assert report.changes == (
            PriceChange(
                "openai",
                "gpt-6.1-sol",
                Prices(Decimal("0.500000"), Decimal("0.010000")),
                Prices(Decimal("0.002000"), Decimal("0.010000")),
            ),
        )
        edited.refresh_from_db()
        assert edited.cost_per_1k_input_tokens == Decimal("0.002")
        assert "openai/gpt-6.1-terra" in report.unchanged

    def test_a_dry_run_reports_and_changes_nothing(self, edited: LLMModel) -> None:
        assert len(prices_refresh(dry_run=True).changes) == 1
        edited.refresh_from_db()
        assert edited.cost_per_1k_input_tokens == Decimal("0.5")

    def test_a_model_not_in_the_list_is_unchanged(self) -> None:
        price = Decimal("0.123")
        LLMModel.objects.create(
            provider_id="openai", model_name="our-own", model_class="pro", cost_per_1k_input_tokens=price
        )
        report = prices_refresh()
        assert {"openai/our-own", "local/SmolLM2-135M-Instruct"} <= set(report.unknown)
        assert LLMModel.objects.get(model_name="our-own").cost_per_1k_input_tokens == price

    def test_the_current_list_is_fetched(self, server: WireServer) -> None:
        prices = {"input_mtok": {"base": "0.0004", "tiers": [{"start": 9, "price": 7}]}, "output_mtok": 3}
        model = {"id": "m", "match": {"equals": "m"}, "context_window": 99, "prices": prices}
        server.answer = Answer.of([{"id": "openai", "name": "OpenAI", "api_pattern": "x", "models": [model]}])
        entry = listed(current_list(server.url), "openai", "m")
        assert entry is not None
        # Rounded to the column's six places.
        assert entry.prices == Prices(Decimal("0.000000"), Decimal("0.003000"))
        assert entry.context_window == 99

    @pytest.mark.parametrize("answer", [Answer(b"nope", 500), Answer(b"<html>"), Answer(b"{}"), Answer(b"[1]")])
    def test_an_unreadable_list_is_reported(self, server: WireServer, answer: Answer) -> None:
        server.answer = answer
        with pytest.raises(PricesUnavailable, match="cannot be read"):
            current_list(server.url)
