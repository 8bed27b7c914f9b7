"""Token usage as it is stored in rows, and which finish reasons mean a truncated reply."""

import pytest

from llm.types import LLMReply, TokenUsage

pytestmark = pytest.mark.unit

FULL = TokenUsage(1000, 200, cached_read=500, cache_write_5m=60, cache_write_1h=40, reasoning=30)


def test_a_document_has_the_totals_and_the_units_that_were_used() -> None:
    assert TokenUsage(0, 0).as_document() == {"input": 0, "output": 0}
    assert TokenUsage(10, 2, cached_read=4).as_document() == {"input": 10, "output": 2, "cached_read": 4}
    assert FULL.as_document() == {
        "input": 1000,
        "output": 200,
        "cached_read": 500,
        "cache_write_5m": 60,
        "cache_write_1h": 40,
        "reasoning": 30,
    }


@pytest.mark.parametrize("usage", [TokenUsage(0, 0), TokenUsage(10, 2), FULL])
def test_a_document_can_be_read_again(usage: TokenUsage) -> None:
    assert TokenUsage.from_document(usage.as_document()) == usage


def test_usages_are_added_unit_by_unit() -> None:
    assert FULL + TokenUsage(1, 2, 3, 4, 5, 6) == TokenUsage(1001, 202, 503, 64, 45, 36)


@pytest.mark.parametrize("reason", ["length", "LENGTH", "max_tokens", "MAX_TOKENS", "model_context_window_exceeded"])
def test_the_limit_is_known_in_every_wires_words(reason: str) -> None:
    assert LLMReply(text="t", usage=FULL, model="m", finish_reason=reason).truncated


@pytest.mark.parametrize("reason", ["stop", "STOP", "end_turn", "stop_sequence", "refusal", ""])
def test_other_ends_are_no_truncation(reason: str) -> None:
    assert not LLMReply(text="t", usage=FULL, model="m", finish_reason=reason).truncated
