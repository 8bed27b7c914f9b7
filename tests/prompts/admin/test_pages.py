"""Prompts on a tenant's site: saving and activating, rolling back, comparing, trying, and how versions were used."""

from collections.abc import Iterator

import pytest
from django.test import Client

from audit.models import AuditLog
from llm.models import StepLLMDefault
from prompts.models import Prompt
from prompts.services import prompt_create, prompt_create_active, prompt_mark_used
from runs.models import Run
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.config.site.forms import Browser, form_in
from tests.runs.conftest import broker_queue, fake_llm
from tests.runs.fake_llm import INPUT_TOKENS, OUTPUT_TOKENS, Answer, FakeLLM
from tests.support.staff import Filled, give_role, make_user

__all__ = ["broker_queue", "fake_llm"]

KEYWORD: dict[str, object] = {"name": "keyword", "type": "string", "required": True}
VARIABLES = '[{"name": "keyword", "type": "string", "required": true}]'
CONFIRMED = {"_form_submitted": "on"}


def site(tenant: Tenant) -> str:
    return f"/t/{tenant.id}/admin/prompts/prompt/"


@pytest.fixture
def draft(tenant: Tenant) -> Prompt:
    with tenant_context(tenant) as alias:
        return prompt_create(alias=alias, step="draft", content="{{ keyword }}", variables=[KEYWORD], note="shorter")


def active_version(tenant: Tenant) -> int:
    with tenant_context(tenant):
        return Prompt.objects.get(step="draft", is_active=True).version


def actions(tenant: Tenant) -> list[str]:
    with tenant_context(tenant):
        return list(AuditLog.objects.order_by("sequence").values_list("action", flat=True))


def test_typed_text_is_saved_and_activated_in_one(browser: Client, tenant: Tenant, draft: Prompt) -> None:
    page = f"{site(tenant)}{draft.pk}/change/"
    html = browser.get(page).content.decode()
    # What would drop the typed text is not offered.
    assert "prompts_prompt_save_and_activate" in html and f"{draft.pk}/activate/" not in html
    form = {"content": "Typed {{ keyword }}", "variables": VARIABLES, "note": "typed"}
    response = browser.post(page, {**form, "prompts_prompt_save_and_activate": "on"}, follow=True)
    assert "draft v2 is now active." in response.content.decode()
    with tenant_context(tenant):
        active = Prompt.objects.get(step="draft", is_active=True)
    assert (active.pk, active.content, active.note) == (draft.pk, "Typed {{ keyword }}", "typed")
    assert str(active.author).startswith("staff:")
    assert {"prompt.change", "prompt.activate"} <= set(actions(tenant))


def test_a_text_that_cannot_work_is_neither_saved_nor_activated_and_stays_on_the_page(
    browser: Client, tenant: Tenant, draft: Prompt
) -> None:
    form = {"content": "Typed {{ tone }}", "variables": VARIABLES, "note": "typed"}
    page = f"{site(tenant)}{draft.pk}/change/"
    html = browser.post(page, {**form, "prompts_prompt_save_and_activate": "on"}).content.decode()
    assert "The template uses undeclared variables: tone." in html
    assert "The template does not use these declared variables: keyword." in html
    assert "Typed {{ tone }}" in html
    assert active_version(tenant) == 1
    with tenant_context(tenant):
        assert Prompt.objects.get(pk=draft.pk).content == "{{ keyword }}"


@pytest.mark.parametrize(("button", "version"), [("", 1), ("_activate", 2)])
def test_a_new_version_is_created_and_if_wanted_activated(
    browser: Client, tenant: Tenant, button: str, version: int
) -> None:
    form = {"step": "draft", "content": "{{ keyword }}", "variables": VARIABLES, "note": "new", button or "x": ""}
    assert browser.post(f"{site(tenant)}add/", form).status_code == 302
    assert active_version(tenant) == version


def test_a_note_is_required(browser: Client, tenant: Tenant, draft: Prompt) -> None:
    form = {"step": "draft", "content": "{{ keyword }}", "variables": VARIABLES, "note": " "}
    for page in (f"{site(tenant)}add/", f"{site(tenant)}{draft.pk}/change/"):
        response = browser.post(page, form)
        assert response.status_code == 200 and "This field is required" in response.content.decode()


def test_a_used_version_is_activated_and_rolled_back(browser: Client, tenant: Tenant, draft: Prompt) -> None:
    with tenant_context(tenant) as alias:
        prompt_mark_used(alias=alias, prompt_ids=[draft.pk])
    page = f"{site(tenant)}{draft.pk}/"
    assert f"{draft.pk}/activate/" in browser.get(f"{page}change/").content.decode()
    browser.post(f"{page}activate/", CONFIRMED)
    assert active_version(tenant) == 2
    html = browser.get(f"{page}change/").content.decode()
    assert f"{draft.pk}/roll_back/" in html and "save_and_activate" not in html
    response = browser.post(f"{page}roll_back/", CONFIRMED, follow=True)
    assert "draft v1 is now active." in response.content.decode()
    assert active_version(tenant) == 1


def test_a_version_that_replaced_none_cannot_be_rolled_back(browser: Client, tenant: Tenant) -> None:
    with tenant_context(tenant):
        active = Prompt.objects.get(step="draft", is_active=True)
    page = f"{site(tenant)}{active.pk}/"
    assert "roll_back" not in browser.get(f"{page}change/").content.decode()
    response = browser.post(f"{page}roll_back/", CONFIRMED, follow=True)
    assert "No other version of step draft was active before." in response.content.decode()


def test_a_draft_that_was_not_saved_offers_no_more_than_before(browser: Client, tenant: Tenant, draft: Prompt) -> None:
    page = f"{site(tenant)}{draft.pk}/change/"
    before = browser.get(page).content.decode()
    after = browser.post(page, {"content": "", "variables": "[]", "note": ""}).content.decode()
    assert "errornote" in after or 'id="conflict"' in after
    for html in (before, after):
        assert "/activate/" not in html and "/roll_back/" not in html


def test_any_two_versions_are_compared(browser: Client, tenant: Tenant, draft: Prompt) -> None:
    with tenant_context(tenant) as alias:
        third = prompt_create_active(
            alias=alias, step="draft", content="<b>{{ keyword }}", variables=[KEYWORD], note="third"
        )
        first = Prompt.objects.get(step="draft", version=1)
    html = browser.get(f"{site(tenant)}{third.pk}/compare/").content.decode()
    assert '<span class="seo-gen-removed">-{{ keyword }}' in html
    assert '<span class="seo-gen-added">+&lt;b&gt;{{ keyword }}' in html
    html = browser.get(f"{site(tenant)}{third.pk}/compare/?old={first.pk}&new={draft.pk}").content.decode()
    assert "--- draft v1: template" in html and "+++ draft v2: template" in html
    japanese = browser.get(f"{site(tenant)}{third.pk}/compare/", headers={"accept-language": "ja"}).content.decode()
    assert "v1: seo-gen の既定のプロンプトです。" in japanese
    assert ": テンプレート" in japanese and ": template" not in japanese
    same = browser.get(f"{site(tenant)}{third.pk}/compare/?old={draft.pk}&new={draft.pk}").content.decode()
    assert "The two versions are the same." in same
    unknown = browser.get(f"{site(tenant)}{third.pk}/compare/?old=%00&new=999999")
    assert unknown.status_code in (200, 400)
    assert browser.get(f"{site(tenant)}999999/compare/").status_code == 404


@pytest.fixture
def routed(fake_llm: FakeLLM) -> Iterator[FakeLLM]:
    """Route the step "draft" to the fake provider."""
    default = StepLLMDefault.objects.get(pk="draft")
    StepLLMDefault.objects.filter(pk="draft").update(provider="openai", model_class="standard")
    yield fake_llm
    default.save()


def test_a_version_is_previewed_then_called(browser: Client, tenant: Tenant, draft: Prompt, routed: FakeLLM) -> None:
    page = f"{site(tenant)}{draft.pk}/try_out/"
    assert 'name="call"' not in browser.get(page).content.decode()
    form = {"run": "", "inputs": '{"keyword": "green <tea>"}'}
    html = browser.post(page, {**form, "preview": ""}).content.decode()
    assert "green &lt;tea&gt;" in html and "Limits for a call to openai/" in html and 'name="call"' in html
    assert routed.prompts == []
    routed.answers.append(Answer(text="About <tea>."))
    html = browser.post(page, {**form, "call": ""}).content.decode()
    assert routed.prompts == ["green <tea>"]
    assert "About &lt;tea&gt;." in html
    assert f"Tokens used: {INPUT_TOKENS:,} in, {OUTPUT_TOKENS} out" in html
    assert {"prompt.test", "prompt.test.complete"} <= set(actions(tenant))


def test_a_past_runs_inputs_are_offered(browser: Client, filled: Filled, routed: FakeLLM) -> None:
    with tenant_context(filled.tenant) as alias:
        made = prompt_create(alias=alias, step="draft", content="{{ keyword }}", variables=[KEYWORD], note="n")
        Run.objects.using(alias).filter(pk=filled.run.pk).update(config={"keyword": "tea time", "language": "en"})
    page = f"{site(filled.tenant)}{made.pk}/try_out/"
    assert str(filled.run.pk) in browser.get(page).content.decode()
    html = browser.post(page, {"run": str(filled.run.pk), "inputs": "", "preview": ""}).content.decode()
    assert '<pre class="seo-gen-code">tea time</pre>' in html
    assert "prompt.preview" in actions(filled.tenant)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("{", "Enter a valid JSON."),
        ("[1]", "Enter a JSON object whose keys are names of variables."),
        ("", "The required variable keyword has no value."),
        ('{"keyword": 1}', "The value of keyword is not of type string."),
        ('{"tone": "dry"}', "Prompt draft v2 does not declare these variables: tone."),
    ],
)
def test_wrong_values_are_errors_on_the_page(
    browser: Client, tenant: Tenant, draft: Prompt, inputs: str, message: str
) -> None:
    response = browser.post(f"{site(tenant)}{draft.pk}/try_out/", {"run": "", "inputs": inputs, "preview": ""})
    assert response.status_code == 200 and message in response.content.decode()


def test_without_the_right_to_change_prompts_nothing_is_tried_or_activated(tenant: Tenant, draft: Prompt) -> None:
    user = make_user(is_superuser=False)
    give_role(user, "reviewer", tenant)
    client = Browser()
    client.force_login(user)
    page = f"{site(tenant)}{draft.pk}/"
    for address in ("try_out", "roll_back", "activate"):
        assert client.post(f"{page}{address}/", CONFIRMED).status_code == 403
    form = {"step": "draft", "content": "{{ keyword }}", "variables": VARIABLES, "note": "new", "_activate": ""}
    assert client.post(f"{site(tenant)}add/", form).status_code == 403
    assert active_version(tenant) == 1
    assert client.get(f"{page}compare/").status_code == 200
    user.delete()


def test_lists_and_pages_show_author_note_and_use(browser: Client, filled: Filled) -> None:
    with tenant_context(filled.tenant):
        prompt = Prompt.objects.get(step="final", version=1)
        filled.run.steps.update(prompt=prompt)
    listed = browser.get(f"{site(filled.tenant)}?step__exact=final").content.decode()
    shown = browser.get(f"{site(filled.tenant)}{prompt.pk}/change/").content.decode()
    for html in (listed, shown):
        assert "Default prompt of seo-gen." in html and "system" in html
    assert "0.0105" in listed
    assert "1 step has used this version." in shown and "Mean tokens: 1,000 in, 500 out." in shown
    assert "Mean cost: 0.0105 USD." in shown and "0 of 1 finished step failed." in shown


def test_the_forms_of_a_draft_hold_what_is_stored(browser: Client, tenant: Tenant, draft: Prompt) -> None:
    html = browser.get(f"{site(tenant)}{draft.pk}/change/").content.decode()
    form = form_in(html, "prompt_form")
    assert (form["content"], form["note"]) == (["{{ keyword }}"], ["shorter"])
