"""A tenant's providers, models and limits override the pipeline's; a run's own choice of a model overrides both."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.test import Client

from audit.models import AuditLog
from llm.errors import MissingKey, NoActiveModel
from llm.keys import KEY_VARIABLES
from llm.models import LLMModel, LLMProvider, StepLLMDefault
from llm.selectors import resolve_model
from runs.models import Run, Step, StepOverride, StepStatus
from runs.services.create import run_create
from runs.services.retry import run_retry
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.runs.driving import execute
from tests.runs.fake_llm import Answer, FakeLLM

CONFIG: dict[str, object] = {"keyword": "tea", "language": "en"}


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in KEY_VARIABLES.values():
        monkeypatch.setenv(variable, "sk-test")


@pytest.fixture
def big() -> Iterator[LLMModel]:
    """Yield a model that is never chosen by its class, because a newer one of that class is active."""
    provider = LLMProvider.objects.create(pk="spare", display_name="Spare", key_variable="OPENAI_API_KEY")
    model = LLMModel.objects.create(provider=provider, model_name="spare-old", model_class="pro", max_output_tokens=500)
    LLMModel.objects.create(provider=provider, model_name="spare-new", model_class="pro")
    yield model
    LLMModel.objects.filter(provider=provider).delete()
    provider.delete()


def override(tenant: Tenant, step: str = "draft", **columns: object) -> None:
    with tenant_context(tenant) as alias:
        StepOverride.objects.using(alias).create(step=step, **columns)


def pinned(tenant: Tenant, run: Run, step: str = "draft") -> tuple[str | None, str | None, int | None]:
    with tenant_context(tenant) as alias:
        row = Step.objects.using(alias).get(run=run, step=step)
    return row.llm_provider, row.llm_model, row.output_limit


def created(tenant: Tenant, **models: dict[str, str]) -> Run:
    return run_create(tenant_id=tenant.pk, config={**CONFIG, "models": models} if models else CONFIG)


def newest(provider: str, model_class: str) -> str:
    return resolve_model(provider, model_class).model_name


class TestPrecedence:
    def test_without_a_choice_of_the_run_the_tenants_holds_for_its_step_alone(self, tenant: Tenant) -> None:
        override(tenant, llm_provider="claude", model_class="standard", output_limit=700)
        run = created(tenant)
        assert pinned(tenant, run) == ("claude", newest("claude", "standard"), 700)
        assert pinned(tenant, run, "final") == ("local", newest("local", "pro"), None)

    def test_an_empty_column_keeps_the_pipelines_value(self, tenant: Tenant) -> None:
        override(tenant, llm_provider="claude")
        override(tenant, "outline", output_limit=64)
        run = created(tenant)
        assert pinned(tenant, run) == ("claude", newest("claude", "pro"), None)
        assert pinned(tenant, run, "outline") == ("local", newest("local", "standard"), 64)

    def test_a_choice_of_the_run_comes_first(self, tenant: Tenant, big: LLMModel) -> None:
        override(tenant, llm_provider="spare", llm_model="spare-old", output_limit=100)
        assert pinned(tenant, created(tenant)) == ("spare", "spare-old", 100)
        run = created(tenant, draft={"provider": "gemini"})
        assert pinned(tenant, run) == ("gemini", newest("gemini", "pro"), 100)
        assert pinned(tenant, created(tenant, draft={"model_class": "pro"})) == ("spare", "spare-new", 100)
        assert pinned(tenant, created(tenant, draft={"model": "spare-new"})) == ("spare", "spare-new", 100)

    def test_the_models_own_limit_is_the_most(self, tenant: Tenant, big: LLMModel) -> None:
        override(tenant, llm_provider="spare", llm_model="spare-old", output_limit=9_000)
        assert pinned(tenant, created(tenant)) == ("spare", "spare-old", 500)

    def test_another_tenant_is_not_affected(self, tenant_pair: tuple[Tenant, Tenant]) -> None:
        tenant, other = tenant_pair
        override(tenant, llm_provider="claude")
        assert pinned(other, created(other))[0] == "local"

    def test_one_that_cannot_run_is_named_when_a_run_is_created(
        self, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        override(tenant, llm_provider="claude", llm_model="claude-1")
        with pytest.raises(NoActiveModel, match="claude has no active model named 'claude-1'"):
            created(tenant)
        with tenant_context(tenant) as alias:
            StepOverride.objects.using(alias).update(llm_model=None)
        monkeypatch.delenv("ANTHROPIC_API_KEY")
        with pytest.raises(MissingKey, match="ANTHROPIC_API_KEY"):
            created(tenant)


class TestFallbacks:
    """Fallbacks belong to the pipeline's route, so a run or tenant that chooses a provider, class or model has none."""

    @pytest.fixture(autouse=True)
    def of_the_pipeline(self) -> Iterator[None]:
        default = StepLLMDefault.objects.get(pk="draft")
        routes = (("nobody", "pro"), ("claude", "pro"), ("local", "pro"), ("gemini", "standard"), ("claude", "pro"))
        fallbacks = [{"provider": provider, "model_class": model_class} for provider, model_class in routes]
        StepLLMDefault.objects.filter(pk="draft").update(fallbacks=fallbacks)
        yield
        default.save()

    @staticmethod
    def of(tenant: Tenant, run: Run, step: str = "draft") -> object:
        with tenant_context(tenant) as alias:
            return Step.objects.using(alias).get(run=run, step=step).fallbacks

    def test_a_run_pins_those_that_can_be_resolved(self, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("GEMINI_API_KEY")  # the workers may have it
        run = created(tenant)
        assert self.of(tenant, run) == [
            {"provider": "claude", "model": newest("claude", "pro")},
            {"provider": "gemini", "model": newest("gemini", "standard")},
        ]
        assert self.of(tenant, run, "final") is None

    @pytest.mark.parametrize("choice", [{"provider": "openai"}, {"model_class": "pro"}])
    def test_a_run_that_chooses_has_none(self, tenant: Tenant, choice: dict[str, str]) -> None:
        assert self.of(tenant, created(tenant, draft=choice)) is None

    @pytest.mark.parametrize("column", ["llm_provider", "model_class", "llm_model"])
    def test_a_tenant_that_chooses_has_none(self, tenant: Tenant, column: str) -> None:
        values = {"llm_provider": "openai", "model_class": "pro", "llm_model": newest("local", "pro")}
        override(tenant, **{column: values[column]})
        assert self.of(tenant, created(tenant)) is None

    def test_a_limit_of_the_tenant_is_no_choice(self, tenant: Tenant) -> None:
        override(tenant, output_limit=70)
        assert self.of(tenant, created(tenant)) is not None


class TestLimit:
    def test_is_sent_and_survives_a_retry_from_the_start(
        self, tenant: Tenant, make_run: Callable[..., Run], fake_llm: FakeLLM
    ) -> None:
        override(tenant, "keyword_analysis", output_limit=77)
        run = make_run(tenant, steps=("keyword_analysis",))
        fake_llm.answers.append(Answer(status=400))
        execute(tenant, run, "keyword_analysis")
        run_retry(tenant_id=tenant.pk, run_id=run.pk)
        execute(tenant, run, "keyword_analysis")
        assert [request["max_completion_tokens"] for request in fake_llm.requests] == [77, 77]

    def test_is_not_raised_after_a_truncated_reply(
        self, tenant: Tenant, make_run: Callable[..., Run], fake_llm: FakeLLM
    ) -> None:
        override(tenant, "keyword_analysis", output_limit=77)
        run = make_run(tenant, steps=("keyword_analysis",))
        fake_llm.answers.append(Answer(truncated=True))
        assert execute(tenant, run, "keyword_analysis") == "failed"
        with tenant_context(tenant) as alias:
            step = Step.objects.using(alias).get(run=run)
        assert step.status == StepStatus.FAILED and step.error_message is not None
        assert "ended at the limit of 77 tokens" in step.error_message


class TestAdmin:
    @pytest.fixture
    def page(self, tenant: Tenant) -> str:
        return f"/t/{tenant.pk}/admin/runs/stepoverride/"

    def test_it_is_added_changed_and_audited(self, tenant: Tenant, page: str, browser: Client) -> None:
        form = {"step": "draft", "llm_provider": "claude", "model_class": "standard", "output_limit": "700"}
        assert browser.post(f"{page}add/", form).status_code == 302
        shown = browser.get(page).content.decode()
        assert f"claude/{newest('claude', 'standard')}" in shown
        assert browser.post(f"{page}draft/change/", {**form, "model_class": ""}).status_code == 302
        assert pinned(tenant, created(tenant)) == ("claude", newest("claude", "pro"), 700)
        with tenant_context(tenant) as alias:
            entries = AuditLog.objects.using(alias).filter(resource_type="step_override").order_by("id")
            details = [(entry.action, entry.details) for entry in entries]
        assert [action for action, _details in details] == ["step_override.create", "step_override.change"]
        assert details[1][1] == {
            "name": "draft",
            "fields": ["model_class"],
            "changes": {"model_class": ["standard", None]},
        }

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({}, "This changes nothing: enter a provider, a class, a model or a limit."),
            (
                {"llm_model": "claude-1", "llm_provider": "claude"},
                "claude has no active model named &#x27;claude-1&#x27;",
            ),
            ({"llm_provider": "nobody"}, "There is no LLM provider &#x27;nobody&#x27;"),
            ({"output_limit": "0"}, "A limit must be at least 1."),
            ({"output_limit": "999999"}, "Enter at most 320, the output limit of model SmolLM2-135M-Instruct."),
            ({"step": "drafd", "output_limit": "5"}, "The pipeline has no step &#x27;drafd&#x27;"),
        ],
    )
    def test_what_no_run_could_use_is_refused(
        self, tenant: Tenant, page: str, browser: Client, changes: dict[str, str], message: str
    ) -> None:
        response = browser.post(f"{page}add/", {"step": "draft", **changes})
        assert response.status_code == 200 and message in response.content.decode()
        with tenant_context(tenant) as alias:
            assert not StepOverride.objects.using(alias).exists()

    def test_a_missing_key_is_refused(
        self, tenant: Tenant, page: str, browser: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("ANTHROPIC_API_KEY")
        response = browser.post(f"{page}add/", {"step": "draft", "llm_provider": "claude"})
        assert "ANTHROPIC_API_KEY, which is not set" in response.content.decode()
