"""Bounds of token counts, and the refusal of prompts that cannot fit."""

import pytest

from llm.context import estimated_tokens, fewest_tokens, require_fits
from llm.errors import PromptTooLong
from llm.types import ModelPrices, ResolvedModel

pytestmark = pytest.mark.unit


def model(window: int | None) -> ResolvedModel:
    return ResolvedModel(*("openai", "openai", None, "OPENAI_API_KEY"), "model-1", "pro", ModelPrices(), 1000, window)


def test_the_bounds_are_in_order() -> None:
    """`test_clients` compares the bounds with a real model's counts."""
    assert fewest_tokens("") == 0 < estimated_tokens("")
    assert fewest_tokens("傘 umbrella") < len("傘 umbrella") < estimated_tokens("傘 umbrella")


def test_a_lone_surrogate_can_be_estimated() -> None:
    assert estimated_tokens("\ud800") > 0


def test_a_prompt_that_surely_exceeds_the_window_is_refused_with_the_numbers() -> None:
    with pytest.raises(PromptTooLong) as caught:
        require_fits(model(4096), "umbrella " * 5000)
    assert caught.value.permanent
    assert caught.value.code == "llm_prompt_too_long"
    assert "at least 5000" in str(caught.value)
    assert "context window is 4096" in str(caught.value)
    assert "openai" in str(caught.value) and "model-1" in str(caught.value)
    assert "Models and prices" in str(caught.value)
    assert "umbrella" not in str(caught.value)


@pytest.mark.parametrize("prompt", ["umbrella " * 2000, " " * 100_000])
def test_a_prompt_that_may_fit_is_let_through(prompt: str) -> None:
    require_fits(model(4096), prompt)


def test_an_unknown_window_refuses_nothing() -> None:
    require_fits(model(None), "umbrella " * 10**6)
