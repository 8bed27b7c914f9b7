"""Creating a run: what is pinned, and which configurations are rejected before anything is created."""

from collections.abc import Callable, Iterator

import pytest
from kombu import Connection

from audit.models import AuditLog
from config.base.errors import SeoGenError
from config.celery import app
from config.stack.process import free_port
from llm.models import StepLLMDefault
from prompts.models import Prompt
from prompts.services import prompt_activate, prompt_create
from runs.models import Run, RunStatus, Step, StepStatus
from runs.services.create import run_create
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.runs.driving import STEPS, messages_sent, standard_model
from tests.runs.fake_llm import FakeLLM

MakeRun = Callable[..., Run]
CONFIG: dict[str, object] = {"keyword": "coffee grinder", "language": "en"}


def refused(tenant: Tenant, config: dict[str, object]) -> str:
    """Return the message with which the run is refused.

    Fail if a run, an audit entry, a used prompt or a message remains.
    """
    with pytest.raises(SeoGenError) as caught:
        run_create(tenant_id=tenant.pk, config=config)
    with tenant_context(tenant) as alias:
        assert not Run.objects.using(alias).exists()
        assert not AuditLog.objects.using(alias).filter(action="run.create").exists()
        assert not Prompt.objects.using(alias).filter(used_at__isnull=False).exists()
    assert messages_sent() == []
    return str(caught.value)


def activate(tenant: Tenant, step: str, content: str, *variables: dict[str, object]) -> Prompt:
    with tenant_context(tenant) as alias:
        prompt = prompt_create(alias=alias, step=step, content=content, variables=list(variables), note="n")
        return prompt_activate(alias=alias, prompt_id=prompt.pk)


def variable(name: str, **more: object) -> dict[str, object]:
    return {"name": name, "type": "string", "required": True, **more}


def test_everything_a_run_needs_is_pinned(tenant: Tenant, make_run: MakeRun) -> None:
    run = make_run(tenant, audience="beginners")
    with tenant_context(tenant) as alias:
        stored = Run.objects.using(alias).get(pk=run.pk)
        steps = list(Step.objects.using(alias).filter(run=run).order_by("position"))
        prompts = {prompt.step: prompt for prompt in Prompt.objects.using(alias).all()}
        entry = AuditLog.objects.using(alias).get(action="run.create")
    assert (stored.status, stored.current_step) == (RunStatus.PENDING, "keyword_analysis")
    assert stored.config is not None
    assert stored.config["audience"] == "beginners"
    assert [step.step for step in steps] == list(STEPS)
    assert {(step.status, step.started_at, step.token_usage, step.lease_token) for step in steps} == {
        (StepStatus.PENDING, None, None, 0)
    }
    assert {(step.llm_provider, step.llm_model) for step in steps} == {("openai", standard_model().model_name)}
    assert [step.prompt_id for step in steps] == [prompts[step].pk for step in STEPS]
    assert all(prompts[step].used_at is not None for step in STEPS)
    assert entry.resource_id == str(run.pk)


def test_the_pipelines_default_needs_no_key(tenant: Tenant) -> None:
    run = run_create(tenant_id=tenant.pk, config=CONFIG)
    with tenant_context(tenant) as alias:
        assert set(Step.objects.using(alias).filter(run=run).values_list("llm_provider", flat=True)) == {"local"}


def test_the_tenant_is_marked_for_the_sweep(tenant: Tenant, make_run: MakeRun) -> None:
    make_run(tenant)
    tenant.refresh_from_db()
    assert tenant.work_seen_at is not None


def test_a_run_may_take_some_steps_and_what_they_lack_as_inputs(tenant: Tenant, make_run: MakeRun) -> None:
    run = make_run(tenant, steps=("draft", "final"), outline="# My own outline")
    with tenant_context(tenant) as alias:
        steps = Step.objects.using(alias).filter(run=run).order_by("position")
        assert list(steps.values_list("step", "position")) == [("draft", 0), ("final", 1)]


def test_a_model_can_be_chosen_by_name(tenant: Tenant, fake_llm: FakeLLM) -> None:
    name = standard_model().model_name
    run = run_create(tenant_id=tenant.pk, config={**CONFIG, "models": {"draft": {"provider": "openai", "model": name}}})
    with tenant_context(tenant) as alias:
        pinned = dict(Step.objects.using(alias).filter(run=run).values_list("step", "llm_provider"))
    assert pinned == {"keyword_analysis": "local", "outline": "local", "draft": "openai", "final": "local"}


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (
            {"steps": ["daft"]},
            "The run's configuration names step 'daft', but the steps of the pipeline are:"
            " keyword_analysis, outline, draft, final.",
        ),
        (
            {"models": {"daft": {"provider": "local"}}},
            "The run's configuration names step 'daft', but the steps of the pipeline are:"
            " keyword_analysis, outline, draft, final.",
        ),
        (
            {"steps": ["keyword_analysis"], "models": {"draft": {"provider": "local"}}},
            "The run's configuration names step 'draft' under `models`, but the steps of the run are only:"
            " keyword_analysis.",
        ),
        (
            {"audiance": "x"},
            "The run's configuration contains 'audiance', but no prompt of this run uses it. "
            "Its prompts use: audience, brand, keyword, language, tone.",
        ),
        (
            {"outline": "x"},
            "The run's configuration contains 'outline', which is the output of a step of this run. "
            "List only the other steps in `steps`, or remove the input.",
        ),
    ],
)
def test_what_the_run_does_not_have_is_named(tenant: Tenant, config: dict[str, object], sentence: str) -> None:
    assert refused(tenant, {**CONFIG, **config}) == sentence


def test_a_missing_key_names_the_variable(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    assert "ANTHROPIC_API_KEY" in refused(tenant, {**CONFIG, "models": {"draft": {"provider": "claude"}}})


def test_an_unknown_provider_and_an_unknown_model_are_named(tenant: Tenant) -> None:
    assert "'acme'" in refused(tenant, {**CONFIG, "models": {"draft": {"provider": "acme"}}})
    assert "'big-1'" in refused(tenant, {**CONFIG, "models": {"draft": {"model": "big-1"}}})


def test_a_step_without_an_active_prompt_is_named(tenant: Tenant) -> None:
    with tenant_context(tenant) as alias:
        Prompt.objects.using(alias).filter(step="draft").update(is_active=False)
    assert refused(tenant, CONFIG).startswith("Step draft has no active prompt.")


def test_a_missing_required_input_is_named(tenant: Tenant) -> None:
    prompt = activate(tenant, "draft", "{{ brand }}", variable("brand"))
    sentence = f"Prompt {prompt.pk} (draft v2) requires brand, but no input or earlier step provides it."
    assert refused(tenant, CONFIG) == sentence


def test_a_blank_required_input_is_named(tenant: Tenant) -> None:
    prompt = activate(tenant, "draft", "{{ brand }}", variable("brand"))
    sentence = f"Prompt {prompt.pk} (draft v2) requires brand, but it is empty in the run's configuration."
    assert refused(tenant, {**CONFIG, "brand": "\u200b"}) == sentence
    assert refused(tenant, {**CONFIG, "brand": ""}) == sentence


def test_a_required_list_without_items_is_named(tenant: Tenant) -> None:
    prompt = activate(tenant, "draft", "{{ brands }}", {**variable("brands"), "type": "list"})
    sentence = f"Prompt {prompt.pk} (draft v2) requires brands, but it is empty in the run's configuration."
    assert refused(tenant, {**CONFIG, "brands": []}) == sentence


def test_the_output_of_a_later_step_is_not_an_input(tenant: Tenant) -> None:
    prompt = activate(tenant, "outline", "{{ draft }}", variable("draft"))
    sentence = f"Prompt {prompt.pk} (outline v2) requires draft, but no input or earlier step provides it."
    assert refused(tenant, CONFIG) == sentence


def test_an_input_of_another_type_is_named(tenant: Tenant) -> None:
    prompt = activate(tenant, "draft", "{{ words }}", variable("words", type="integer"))
    sentence = (
        f"The type of words in the run's configuration must be integer, as prompt {prompt.pk} (draft v2) declares it."
    )
    assert refused(tenant, {**CONFIG, "words": "many"}) == sentence


def test_an_output_that_is_declared_as_something_else_is_named(tenant: Tenant) -> None:
    prompt = activate(tenant, "draft", "{{ outline }}", variable("outline", type="list"))
    sentence = f"Prompt {prompt.pk} (draft v2) declares outline as list, but the output of a step is a string."
    assert refused(tenant, CONFIG) == sentence


def test_a_prompt_that_disagrees_with_its_declaration_is_refused(tenant: Tenant) -> None:
    prompt = activate(tenant, "draft", "{{ keyword }}", variable("keyword"))
    with tenant_context(tenant) as alias:
        Prompt.objects.using(alias).filter(pk=prompt.pk).update(content="{{ keyword }} {{ brand }}")
    sentence = f"Prompt {prompt.pk} (draft v2) cannot be used: it uses undeclared variables: brand."
    assert refused(tenant, CONFIG) == sentence


@pytest.fixture
def empty_pipeline() -> Iterator[None]:
    rows = list(StepLLMDefault.objects.all())
    StepLLMDefault.objects.all().delete()
    yield
    StepLLMDefault.objects.bulk_create(rows)


@pytest.mark.usefixtures("empty_pipeline")
def test_empty_pipeline_is_rejected(tenant: Tenant) -> None:
    assert refused(tenant, CONFIG).startswith("The pipeline has no steps.")


@pytest.fixture
def oddly_named_step() -> Iterator[None]:
    odd = StepLLMDefault.objects.create(step="Final Check!", provider_id="local", model_class="standard", position=99)
    yield
    odd.delete()


@pytest.mark.usefixtures("oddly_named_step")
def test_a_step_that_cannot_be_a_folder_is_refused(tenant: Tenant) -> None:
    assert refused(tenant, CONFIG).startswith("The pipeline has a step with an invalid name, 'Final Check!':")


def test_an_unknown_tenant_is_named() -> None:
    with pytest.raises(SeoGenError, match="There is no tenant 'nobody'"):
        run_create(tenant_id="nobody", config=CONFIG)


def test_without_a_broker_nothing_is_started(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"redis://:secret@127.0.0.1:{free_port()}/0"
    monkeypatch.setattr(app, "connection_for_write", lambda **options: Connection(address, **options))
    sentence = refused(tenant, CONFIG)
    assert sentence.startswith("The message broker redis://:**@127.0.0.1:")
    assert "cannot be used, so the run was not started." in sentence
    assert "secret" not in sentence
