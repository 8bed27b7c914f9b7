from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.conf import settings

from llm.errors import (
    InactiveProvider,
    InvalidBaseURL,
    InvalidModelClass,
    MissingKey,
    MissingKeyVariable,
    NoActiveModel,
    UnknownProvider,
)
from llm.models import LLMModel, LLMProvider, ModelClass, StepLLMDefault
from llm.selectors import (
    DEFAULT_MAX_OUTPUT_TOKENS,
    find_model,
    pipeline,
    require_key,
    resolve_model,
    resolve_named_model,
)
from llm.types import ModelPrices, PipelineStep

pytestmark = pytest.mark.usefixtures("undone")

PRO, STANDARD = ModelClass.PRO, ModelClass.STANDARD


@pytest.fixture
def provider() -> LLMProvider:
    return LLMProvider.objects.create(id="p", display_name="P")


def add(provider: LLMProvider, name: str, model_class: str, **columns: object) -> LLMModel:
    return LLMModel.objects.create(provider=provider, model_name=name, model_class=model_class, **columns)


class TestResolveModel:
    def test_is_the_newest_active_of_the_class(self, provider: LLMProvider) -> None:
        add(provider, "old", PRO)
        add(provider, "new", PRO, max_output_tokens=5, cost_per_1k_input_tokens=Decimal("0.002"))
        add(provider, "newest but off", PRO, is_active=False)
        add(provider, "other", STANDARD)
        model = resolve_model("p", "pro")
        assert (model.provider_id, model.model_name, model.model_class) == ("p", "new", "pro")
        assert model.max_output_tokens == 5
        assert model.prices == ModelPrices({"input": Decimal("0.002")})

    def test_one_class_serves_both_if_the_provider_has_no_other(self, provider: LLMProvider) -> None:
        add(provider, "only", STANDARD)
        model = resolve_model("p", "pro")
        assert (model.model_name, model.model_class) == ("only", "standard")
        assert model.max_output_tokens == DEFAULT_MAX_OUTPUT_TOKENS

    def test_a_model_past_its_retirement_date_is_the_last_choice(self, provider: LLMProvider) -> None:
        today = datetime.now(UTC).date()
        retired = add(provider, "retired", PRO, retires_on=today)
        assert resolve_model("p", "pro").model_name == "retired"
        add(provider, "older", PRO, retires_on=today + timedelta(days=2))
        LLMModel.objects.filter(pk=retired.pk).delete()
        add(provider, "retired", PRO, retires_on=today)
        assert resolve_model("p", "pro").model_name == "older"

    def test_an_inactive_class_is_not_replaced(self, provider: LLMProvider) -> None:
        add(provider, "only", STANDARD)
        add(provider, "off", PRO, is_active=False)
        with pytest.raises(NoActiveModel, match="p has no active model of class 'pro'"):
            resolve_model("p", "pro")

    def test_a_provider_without_models(self, provider: LLMProvider) -> None:
        with pytest.raises(NoActiveModel, match="p has no active model of class 'standard'"):
            resolve_model("p", "standard")

    def test_an_unknown_provider_is_refused_with_the_known_ones(self) -> None:
        with pytest.raises(UnknownProvider, match=r"'nobody'.*claude, gemini, local, openai"):
            resolve_model("nobody", "pro")

    def test_an_inactive_provider_is_refused(self, provider: LLMProvider) -> None:
        add(provider, "m", PRO)
        LLMProvider.objects.filter(pk="p").update(is_active=False)
        with pytest.raises(InactiveProvider, match="p is not active"):
            resolve_model("p", "pro")

    def test_an_unknown_class(self, provider: LLMProvider) -> None:
        with pytest.raises(InvalidModelClass, match=r"'ultra'.*pro, standard"):
            resolve_model("p", "ultra")

    @pytest.mark.parametrize("url", [None, ""])
    def test_no_base_url_is_none(self, provider: LLMProvider, url: str | None) -> None:
        LLMProvider.objects.filter(pk="p").update(api_base_url=url)
        add(provider, "m", PRO)
        assert resolve_model("p", "pro").api_base_url is None


class TestResolveNamedModel:
    def test_finds_it_in_any_class(self, provider: LLMProvider) -> None:
        LLMProvider.objects.filter(pk="p").update(api_base_url="http://host/v1")
        add(provider, "m", STANDARD)
        model = resolve_named_model("p", "m")
        assert (model.model_name, model.api_base_url) == ("m", "http://host/v1")

    def test_an_inactive_model_serves_only_runs_that_pinned_it(self, provider: LLMProvider) -> None:
        add(provider, "m", PRO, is_active=False)
        with pytest.raises(NoActiveModel, match="p has no active model named 'm'"):
            resolve_named_model("p", "m")
        LLMProvider.objects.filter(pk="p").update(is_active=False)
        found = find_model("p", "m")
        assert found is not None and found.model_name == "m"

    def test_an_unknown_model_is_refused(self, provider: LLMProvider) -> None:
        with pytest.raises(NoActiveModel):
            resolve_named_model("p", "m")


def test_a_model_is_found_with_its_prices_active_or_not(provider: LLMProvider) -> None:
    add(provider, "m", PRO, cost_per_1k_output_tokens=Decimal("0.000123"), is_active=False)
    found = find_model("p", "m")
    assert found is not None
    assert found.prices == ModelPrices({"output": Decimal("0.000123")})
    assert find_model("p", "never heard of") is None


def test_the_pipeline_is_in_order(provider: LLMProvider) -> None:
    StepLLMDefault.objects.all().delete()
    for step, position in (("b", 2), ("c", 1), ("a", 2)):
        StepLLMDefault.objects.create(step=step, position=position, provider=provider, model_class=PRO)
    assert [row.step for row in pipeline()] == ["c", "a", "b"]
    assert pipeline()[0] == PipelineStep("c", 1, "p", "pro")


class TestRequireKey:
    def test_names_the_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(MissingKey, match="claude needs the environment variable ANTHROPIC_API_KEY"):
            require_key("claude")
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-1")
        require_key("claude")

    def test_local_needs_only_an_address(self, monkeypatch: pytest.MonkeyPatch) -> None:
        require_key("local")
        monkeypatch.setattr(settings, "LOCAL_LLM_URL", "")
        with pytest.raises(MissingKey, match="LOCAL_LLM_URL"):
            require_key("local")
        LLMProvider.objects.filter(pk="local").update(api_base_url="http://127.0.0.1:1/v1")
        monkeypatch.setattr(settings, "LLM_ALLOWED_HOSTS", ["127.0.0.1:1"])
        require_key("local")

    def test_a_provider_without_address_and_key_is_refused(self, provider: LLMProvider) -> None:
        with pytest.raises(MissingKeyVariable, match="p uses its vendor's own server, but has no key variable"):
            require_key("p")

    def test_an_invalid_base_url_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
        LLMProvider.objects.filter(pk="openai").update(api_base_url="llm.example/v1")
        with pytest.raises(InvalidBaseURL, match="openai"):
            require_key("openai")
