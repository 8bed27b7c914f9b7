"""The prompts that every tenant starts with."""

import pytest

from prompts.content import check_agreement
from prompts.models import Prompt
from prompts.rendering import declared_variables, render
from prompts.selectors import active_prompts
from tenants.models import Tenant
from tenants.routing.context import tenant_context

STEPS = ("keyword_analysis", "outline", "draft", "final")
VALUES = {"keyword": "コーヒー", "keyword_analysis": "ANALYSIS", "outline": "OUTLINE", "draft": "DRAFT"}


def texts(tenant: Tenant, **values: object) -> dict[str, str]:
    with tenant_context(tenant) as alias:
        prompts = active_prompts(alias=alias, steps=STEPS)
    return {
        step: render(prompt.content, declared_variables(prompt.variables), {**VALUES, **values}, prompt=step)
        for step, prompt in prompts.items()
    }


def test_every_step_has_an_active_prompt_that_agrees_with_its_declaration(tenant: Tenant) -> None:
    with tenant_context(tenant) as alias:
        prompts = list(Prompt.objects.using(alias).all())
        assert {(prompt.step, prompt.version, prompt.is_active) for prompt in prompts} == {(s, 1, True) for s in STEPS}
        assert all(prompt.used_at is None for prompt in prompts)
        for prompt in prompts:
            check_agreement(prompt)


@pytest.mark.parametrize(("language", "expected"), [("ja", "日本語のMarkdown"), ("en", "Markdown")])
def test_the_language_decides_the_text(tenant: Tenant, language: str, expected: str) -> None:
    for text in texts(tenant, language=language).values():
        assert expected in text
        assert "コーヒー" in text
        assert ("日本語" in text) == (language == "ja")


def test_each_step_builds_on_the_one_before(tenant: Tenant) -> None:
    rendered = texts(tenant, language="en")
    assert "ANALYSIS" in rendered["outline"]
    assert "OUTLINE" in rendered["draft"]
    assert "DRAFT" in rendered["final"]


def test_audience_and_tone_are_mentioned_only_if_given(tenant: Tenant) -> None:
    plain = texts(tenant, language="en")["final"]
    assert "readers" not in plain and "tone" not in plain
    given = texts(tenant, language="en", audience="beginners", tone="friendly")["final"]
    assert "Its readers are beginners.\nIts tone is friendly.\n" in given


def test_an_omitted_optional_line_leaves_no_gap(tenant: Tenant) -> None:
    assert all("\n\n\n" not in text for text in texts(tenant, language="ja").values())
