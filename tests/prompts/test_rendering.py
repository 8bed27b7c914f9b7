"""Templates: the names they use, how they render, and what they must not do."""

from typing import Any

import pytest

from prompts.errors import InvalidPrompt, PromptRenderError
from prompts.rendering import (
    declared_variables,
    names_used,
    render,
    render_with_cache_points,
    undeclared,
    unused,
)
from prompts.types import PromptVariable

pytestmark = pytest.mark.unit

KEYWORD = {"name": "keyword", "type": "string", "required": True}
TONE = {"name": "tone", "type": "string", "required": False}


def rendered(content: str, declarations: list[dict[str, Any]], values: dict[str, object]) -> str:
    return render(content, declared_variables(declarations), values, prompt="7 (draft v2)")


def test_a_declared_value_is_filled_in() -> None:
    assert rendered("About {{ keyword }}.", [KEYWORD], {"keyword": "珈琲 <b>"}) == "About 珈琲 <b>."


def test_an_optional_variable_without_a_value_is_falsy() -> None:
    assert rendered("{% if tone %}{{ tone }}{% else %}plain{% endif %}", [TONE], {}) == "plain"


def test_a_default_stands_in_for_a_missing_value() -> None:
    assert rendered("{{ tone }}", [{**TONE, "default": "kind"}], {"tone": None}) == "kind"


def test_an_undeclared_value_is_not_passed_to_the_template() -> None:
    with pytest.raises(PromptRenderError, match=r"Prompt 7 \(draft v2\) cannot be rendered: 'tone' is undefined"):
        rendered("{{ tone }}", [], {"tone": "kind"})


def test_a_missing_required_value_is_named() -> None:
    with pytest.raises(PromptRenderError, match="The required variable keyword has no value"):
        rendered("{{ keyword }}", [KEYWORD], {})


@pytest.mark.parametrize(
    ("kind", "value"), [("string", 5), ("integer", True), ("integer", "5"), ("boolean", 1), ("list", "a")]
)
def test_a_value_of_another_type_is_refused(kind: str, value: object) -> None:
    with pytest.raises(PromptRenderError, match=f"The value of x is not of type {kind}"):
        rendered("{{ x }}", [{"name": "x", "type": kind}], {"x": value})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{{ keyword.__class__.__mro__ }}", "access to attribute '__class__' of 'str' object is unsafe"),
        ("{{ keyword.missing }}", "has no attribute 'missing'"),
        ("{{ 1 / 0 }}{{ keyword }}", "ZeroDivisionError"),
        ("{% for i in range(10000000) %}{{ keyword }}{% endfor %}", "OverflowError"),
        (
            "{% for i in range(99999) %}{{ keyword * 99 }}{% endfor %}",
            "The rendered text is longer than 4194304 characters.",
        ),
    ],
)
def test_a_failing_template_is_one_sentence_with_the_prompts_name(content: str, reason: str) -> None:
    with pytest.raises(PromptRenderError) as caught:
        rendered(content, [KEYWORD], {"keyword": "x"})
    assert str(caught.value).startswith("Prompt 7 (draft v2) cannot be rendered")
    assert reason in str(caught.value)


def test_names_used_leaves_out_what_the_template_sets_itself() -> None:
    content = "{% set a = 1 %}{% for item in items %}{{ loop.index }}{{ item }}{{ a }}{% endfor %}{{ range(3) }}"
    assert names_used(content) == {"items"}


def test_undeclared_and_unused_names_are_told_apart() -> None:
    variables = declared_variables([KEYWORD, TONE])
    assert undeclared("{{ keyword }}{{ audience }}", variables) == {"audience"}
    assert unused("{{ keyword }}{{ audience }}", variables) == {"tone"}


@pytest.mark.parametrize("content", ["{{ keyword", "{% if %}", "{% nonsense %}"])
def test_an_invalid_template_is_refused_with_its_line(content: str) -> None:
    with pytest.raises(InvalidPrompt, match=r"The template is not valid Jinja2: .+ \(line 1\)\."):
        names_used(content)


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ("keyword", "must be a list, not 'keyword'"),
        ([{"type": "string"}], "[0].name is missing"),
        ([{"name": "x"}], "[0].type is missing"),
        ([{"name": "x", "type": "text"}], "[0].type must be 'string', 'integer', 'boolean' or 'list', not 'text'"),
        ([{"name": "X y", "type": "string"}], "[0].name cannot be 'X y'"),
        ([{"name": "x", "type": "string", "requird": True}], "[0].requird is not a known field"),
        ([{"name": "x", "type": "string", "required": "yes"}], "[0].required must be true or false, not 'yes'"),
        ([{"name": "x", "type": "string", "default": 3}], "[0] has a default that is not of type string"),
        ([{**KEYWORD, "default": "y"}], "[0] has a default although it is required"),
        ([KEYWORD, KEYWORD], "keyword is declared more than once"),
        (
            [{"name": "x", "type": "list", "default": [float("nan")]}],
            "a value cannot be stored (a NUL character, an unpaired surrogate, NaN or infinity)",
        ),
    ],
)
def test_a_wrong_declaration_is_one_sentence(document: object, problem: str) -> None:
    with pytest.raises(InvalidPrompt) as caught:
        declared_variables(document)
    assert str(caught.value) == f"Prompt variables: {problem}."


@pytest.mark.parametrize("tag", ["{% include 'x' %}", "{% extends 'x' %}", "{% import 'x' as y %}", "{% include n %}"])
def test_a_template_made_of_others_is_refused(tag: str) -> None:
    with pytest.raises(
        InvalidPrompt, match=r"The template uses include, import or extends, but a prompt must be a single template\."
    ):
        names_used(tag)


def test_no_declaration_means_no_variables() -> None:
    assert declared_variables(None) == ()


def test_a_variable_accepts_values_of_its_type() -> None:
    variable = PromptVariable(name="n", type="integer")
    assert variable.accepts(3)
    assert not variable.accepts(True)
    assert not variable.accepts("3")


@pytest.mark.parametrize(
    ("content", "text", "parts"),
    [
        ("plain", "plain", []),
        ("a{# cache #}b", "ab", ["a"]),
        ("a\n{# cache #}\nb\n{#cache#}\nc", "a\nb\nc", ["a\n", "a\nb\n"]),
        ("a\n  {# cache #}\nb", "a\nb", ["a\n"]),
        # A part of white space alone belongs to the one before it.
        ("a{# cache #}\n\n{# cache #}b", "a\nb", ["a\n"]),
        ("{# cache #}a", "a", []),
        ("a{# cache #}", "a", []),
        ("a{# cache #}\n ", "a ", []),
        ("{% if tone %}{{ tone }}{# cache #}{% endif %}b", "b", []),
        ("{% for i in range(2) %}{{ i }}{# cache #}{% endfor %}b", "01b", ["0", "01"]),
        ("a{# no cache #}b", "ab", []),
    ],
)
def test_a_comment_makes_a_cache_point_and_leaves_the_text_alone(content: str, text: str, parts: list[str]) -> None:
    found = render_with_cache_points(content, declared_variables([TONE]), {}, prompt="7 (draft v2)")
    assert found.text == text
    assert [found.text[:point] for point in found.cache_points] == parts


def test_no_value_can_make_a_cache_point() -> None:
    found = render_with_cache_points(
        "{{ keyword }}{# cache #}b", declared_variables([KEYWORD]), {"keyword": "\x1f{# cache #}\x1f"}, prompt="7"
    )
    assert found.cache_points == (len("\x1f{# cache #}\x1f"),)
