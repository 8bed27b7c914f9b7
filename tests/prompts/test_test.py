"""`prompt test` renders a version, calls the model once unless it is a preview, and records the call's cost."""

import io
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from audit.models import AuditLog
from config.base.command import Refusal
from llm.errors import LLMError
from llm.models import LLMModel
from llm.selectors import resolve_model
from prompts.models import Prompt
from prompts.services import prompt_create
from prompts.test import prompt_preview, prompt_test
from runs.models import Artifact, Call, Run, Step, StepOverride
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.runs.conftest import broker_queue, fake_llm, make_run
from tests.runs.driving import PROVIDER, execute
from tests.runs.fake_llm import INPUT_TOKENS, OUTPUT_TOKENS, Answer, FakeLLM

__all__ = ["broker_queue", "fake_llm", "make_run"]

KEYWORD: dict[str, object] = {"name": "keyword", "type": "string", "required": True}
COUNT: dict[str, object] = {"name": "count", "type": "integer"}
BEFORE: dict[str, object] = {"name": "keyword_analysis", "type": "string", "required": True}
INPUT_PRICE, OUTPUT_PRICE = Decimal("0.25"), Decimal("2")
COST = (INPUT_TOKENS * INPUT_PRICE + OUTPUT_TOKENS * OUTPUT_PRICE) / 1000


@pytest.fixture(autouse=True)
def prices() -> Iterator[None]:
    """Set known prices for the model that is called."""
    rows = LLMModel.objects.filter(provider_id=PROVIDER, model_name=resolve_model(PROVIDER, "standard").model_name)
    before = rows.get()
    rows.update(cost_per_1k_input_tokens=INPUT_PRICE, cost_per_1k_output_tokens=OUTPUT_PRICE)
    yield
    before.save()


@pytest.fixture
def draft(tenant: Tenant) -> Prompt:
    with tenant_context(tenant) as alias:
        content = "{{ keyword }}{% if count %} {{ count + 1 }}{% endif %}"
        return prompt_create(alias=alias, step="draft", content=content, variables=[KEYWORD, COUNT], note="why")


def try_it(tenant: Tenant, *arguments: str, step: str = "draft") -> Any:
    out = io.StringIO()
    given = ("--tenant-id", tenant.pk, "--step", step, "--version", "2", "--provider", PROVIDER)
    model = ("--model-class", "standard", "--json")
    call_command("prompt_test", *given, *model, *arguments, stdout=out, stderr=io.StringIO())
    return json.loads(out.getvalue())


def entries(tenant: Tenant) -> list[tuple[str, Any]]:
    with tenant_context(tenant) as alias:
        found = AuditLog.objects.using(alias).filter(action__startswith="prompt.").exclude(action="prompt.create")
        return list(found.order_by("sequence").values_list("action", "details"))


def test_a_preview_renders_and_says_what_a_call_can_cost(tenant: Tenant, draft: Prompt, fake_llm: FakeLLM) -> None:
    found = try_it(tenant, "--input", "keyword=a=b", "--input", "count=2", "--preview")
    assert (found["text"], found["output"], found["cost"]) == ("a=b 3", None, None)
    limit = found["max_input_tokens"] * INPUT_PRICE + found["max_output_tokens"] * OUTPUT_PRICE
    assert found["cost_limit"] == float(limit / 1000)
    assert fake_llm.prompts == [] and entries(tenant) == []


def test_a_call_is_made_once_and_its_cost_kept(tenant: Tenant, draft: Prompt, fake_llm: FakeLLM) -> None:
    fake_llm.answers.append(Answer(text="An article."))
    found = try_it(tenant, "--input", "keyword=tea")
    assert fake_llm.prompts == ["tea"]
    assert (found["output"], found["cost"]) == ("An article.", float(COST))
    assert (found["token_usage"]["input"], found["token_usage"]["output"]) == (INPUT_TOKENS, OUTPUT_TOKENS)
    (begun, limits), (ended, used) = entries(tenant)
    assert (begun, ended) == ("prompt.test", "prompt.test.complete")
    assert limits["max_output_tokens"] > 0 and Decimal(limits["cost_limit"]) > COST
    assert (used["token_usage"]["input"], Decimal(used["cost"]), used["version"]) == (INPUT_TOKENS, COST, 2)
    assert "An article." not in str(used) and "tea" not in str(limits)
    with tenant_context(tenant) as alias:
        for model in (Run, Step, Call, Artifact):
            assert not model._default_manager.using(alias).exists()


def test_a_call_that_fails_has_an_entry_with_the_error(tenant: Tenant, draft: Prompt, fake_llm: FakeLLM) -> None:
    fake_llm.answers.append(Answer(status=401, text="no such key"))
    with pytest.raises(Refusal):
        try_it(tenant, "--input", "keyword=tea")
    assert [action for action, _details in entries(tenant)] == ["prompt.test", "prompt.test.fail"]
    assert entries(tenant)[1][1]["may_be_billed"] is False


def test_a_call_that_is_too_expensive_is_not_made(tenant: Tenant, draft: Prompt, fake_llm: FakeLLM) -> None:
    with pytest.raises(Refusal) as refusal:
        try_it(tenant, "--input", "keyword=tea", "--max-cost", "0.000001")
    assert refusal.value.code == "prompt_test_too_expensive"
    assert fake_llm.prompts == [] and entries(tenant) == []


def test_a_highest_cost_that_is_not_a_number_is_refused(tenant: Tenant, draft: Prompt) -> None:
    with pytest.raises(CommandError, match="not an amount in USD"):
        try_it(tenant, "--input", "keyword=tea", "--max-cost", "nan")


def test_the_model_and_the_limit_are_those_of_the_tenants_runs(tenant: Tenant, draft: Prompt) -> None:
    own = LLMModel.objects.create(provider_id=PROVIDER, model_name="own", model_class="pro", max_output_tokens=900)
    with tenant_context(tenant) as alias:
        StepOverride.objects.using(alias).create(step="draft", llm_provider=PROVIDER, llm_model="own", output_limit=500)
    try:
        trial = prompt_preview(tenant_id=tenant.id, step="draft", version=2, inputs={"keyword": "tea"})
        chosen = prompt_preview(
            tenant_id=tenant.id, step="draft", version=2, inputs={"keyword": "tea"}, model_class="standard"
        )
    finally:
        own.delete()
    assert (trial.model.model_name, trial.model.max_output_tokens) == ("own", 500)
    assert chosen.model.model_name == resolve_model(PROVIDER, "standard").model_name


def test_the_values_of_a_past_run_are_its_inputs_and_outputs(
    tenant: Tenant, make_run: Callable[..., Run], fake_llm: FakeLLM
) -> None:
    run = make_run(tenant)
    fake_llm.answers.append(Answer(text="What readers want."))
    execute(tenant, run, "keyword_analysis")
    with tenant_context(tenant) as alias:
        content = "{{ keyword }}: {{ keyword_analysis }}"
        prompt_create(alias=alias, step="outline", content=content, variables=[KEYWORD, BEFORE], note="why")
    found = try_it(tenant, "--run-id", str(run.pk), "--preview", step="outline")
    assert found["text"] == "coffee grinder: What readers want."
    [(action, details)] = entries(tenant)
    assert (action, details["run"]) == ("prompt.preview", str(run.pk))
    changed = try_it(tenant, "--run-id", str(run.pk), "--input", "keyword=tea", "--preview", step="outline")
    assert changed["text"] == "tea: What readers want."


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), "prompt_render_failed"),
        (("--input", "keyword"), "prompt_input_invalid"),
        (("--input", "keyword=tea", "--input", "tone=dry"), "prompt_input_unknown"),
        (("--input", "keyword=tea", "--input", "count=many"), "prompt_input_invalid"),
        (("--input", "keyword=tea", "--input", 'count="1"'), "prompt_render_failed"),
        (("--run-id", "none"), "run_not_found"),
    ],
)
def test_wrong_values_are_refused_before_a_call(
    tenant: Tenant, draft: Prompt, fake_llm: FakeLLM, arguments: tuple[str, ...], code: str
) -> None:
    with pytest.raises(Refusal) as refusal:
        try_it(tenant, *arguments)
    assert refusal.value.code == code and "\n" not in refusal.value.message
    assert fake_llm.prompts == [] and entries(tenant) == []


def test_a_template_that_never_ends_is_refused_before_a_call(tenant: Tenant, fake_llm: FakeLLM) -> None:
    loop = "{{ keyword }}{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    with tenant_context(tenant) as alias:
        prompt_create(alias=alias, step="draft", content=loop, variables=[KEYWORD], note="why")
    with pytest.raises(Refusal, match=r"cannot be rendered\. It takes too long\."):
        try_it(tenant, "--input", "keyword=tea")
    assert fake_llm.prompts == []


def test_an_interrupted_call_has_an_entry(
    tenant: Tenant, draft: Prompt, fake_llm: FakeLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("llm.clients.openai.OpenAIClient.complete", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prompt_test(tenant_id=tenant.pk, step="draft", version=2, inputs={"keyword": "x"}, provider_id=PROVIDER)
    assert [action for action, _details in entries(tenant)] == ["prompt.test", "prompt.test.fail"]
    assert entries(tenant)[1][1] == {**entries(tenant)[1][1], "error": "KeyboardInterrupt", "may_be_billed": True}


def test_a_prompt_that_cannot_fit_is_refused_before_a_call(tenant: Tenant, draft: Prompt, fake_llm: FakeLLM) -> None:
    LLMModel.objects.filter(provider_id=PROVIDER).update(context_window=2)
    try:
        with pytest.raises(LLMError):
            prompt_test(
                tenant_id=tenant.pk, step="draft", version=2, inputs={"keyword": "a b c d"}, provider_id=PROVIDER
            )
    finally:
        LLMModel.objects.filter(provider_id=PROVIDER).update(context_window=None)
    assert fake_llm.prompts == [] and entries(tenant) == []
