"""How replies are read: known cases, replies made at random, and what a broken server might send.

The bytes go through the same code as those of a real connection; `test_streams` tests real connections.
"""

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from llm.errors import LLMError, LLMPermanentError, LLMTransientError
from llm.types import LLMReply, TokenUsage
from tests.llm.clients.made_replies import Made, made, read_reply
from tests.llm.clients.mutated_replies import damaged, encoded, mutate, mutate_irrelevant, read_or_error
from tests.llm.formats import PAID, OpenAI, Provider, sse

pytestmark = pytest.mark.unit

CASES = Path(__file__).with_name("cases")
# Of each of two kinds, so 5,000 in the usual tests.
MUTATIONS = max(2_500, 50 * int(os.environ.get("CHAOS_ROUNDS", "0")))
MADE = 200


def case(name: str) -> LLMReply:
    return read_reply(name.partition("-")[0], [(CASES / f"{name}.json").read_bytes()])


def failed_case(name: str) -> LLMError:
    with pytest.raises(LLMError) as caught:
        case(name)
    return caught.value


def openai_reply(text: Any, **message: object) -> LLMReply:
    document = OpenAI().reply("text")
    document["choices"][0]["message"] |= {"content": text, **message}
    return read_reply("openai", [json.dumps(document).encode()])


class TestCases:
    """The replies in the folder `cases`."""

    @pytest.mark.parametrize(
        ("name", "usage"),
        [
            ("openai-cached", TokenUsage(5000, 100, cached_read=4864, reasoning=40)),
            ("claude-cached", TokenUsage(91_050, 100, cached_read=90_000, cache_write_5m=600, cache_write_1h=400)),
            ("gemini-cached", TokenUsage(5000, 125, cached_read=4096, reasoning=25)),
        ],
    )
    def test_cached_input_is_counted_apart(self, name: str, usage: TokenUsage) -> None:
        assert case(name).usage == usage
        assert case(name).text == "# T"

    @pytest.mark.parametrize("name", ["openai-usage-empty", "openai-usage-partial", "gemini-usage-partial"])
    def test_counts_that_are_not_all_there_are_permanent(self, name: str) -> None:
        error = failed_case(name)
        assert isinstance(error, LLMPermanentError)
        assert "returned no token counts" in str(error)
        assert error.may_be_billed

    def test_an_impossible_count_is_malformed(self) -> None:
        error = failed_case("openai-huge-count")
        assert error.code == "llm_reply_malformed"
        assert error.usage is None

    def test_an_error_in_place_of_a_reply_is_permanent_with_the_providers_sentence(self) -> None:
        error = failed_case("openai-error-in-200")
        assert isinstance(error, LLMPermanentError)
        assert "insufficient credits" in str(error)
        assert not error.may_be_billed

    def test_a_reply_without_choices_is_malformed_and_counted(self) -> None:
        error = failed_case("openai-choices-null")
        assert error.code == "llm_reply_malformed"
        assert error.usage == TokenUsage(5, 0)
        assert not error.may_be_billed

    @pytest.mark.parametrize("name", ["openai-length", "claude-max-tokens"])
    def test_a_text_at_the_limit_is_marked(self, name: str) -> None:
        assert case(name).truncated

    def test_no_nul_passes(self) -> None:
        assert case("openai-nul").finish_reason == "stop"

    def test_reasoning_is_not_in_the_text(self) -> None:
        assert case("openai-think").text == "# Real"

    def test_an_unknown_block_is_ignored(self) -> None:
        assert case("claude-new-block").text == "# T"


class TestText:
    @pytest.mark.parametrize(
        ("said", "text"),
        [
            ("<think>a</think>\n\n# Real", "# Real"),
            ("\n <THINK>a</Think># Real", "# Real"),
            ("<thinking>a</thinking># Real", "# Real"),
            ("<think></think># Real", "# Real"),
            ("<think>a</think>\n<think>b</think># Real", "# Real"),
            ("<think>the tag <think> itself</think># Real", "# Real"),
            ("the template opened it\n</think>\n\n# Real", "# Real"),
            ("# Real <think>not</think> reasoning", "# Real <think>not</think> reasoning"),
            ("# Real: `</think>` ends it", "# Real: `</think>` ends it"),
            ("# Real\n\n<think>\nan example\n</think>\n", "# Real\n\n<think>\nan example\n</think>\n"),
        ],
    )
    def test_reasoning_in_front_is_left_out(self, said: str, text: str) -> None:
        assert openai_reply(said).text == text

    def test_reasoning_without_end_leaves_no_text(self) -> None:
        with pytest.raises(LLMTransientError, match="returned no text") as caught:
            openai_reply("<think>and so on")
        assert caught.value.usage == OpenAI.usage

    @pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
    def test_reasoning_in_fields_of_its_own_is_left_out(self, field: str) -> None:
        assert openai_reply("# Real", **{field: "private"}).text == "# Real"

    def test_typed_parts_are_read(self) -> None:
        parts = [
            {"type": "thinking", "thinking": [{"type": "text", "text": "private"}]},
            {"type": "text", "text": "# "},
            {"type": "text", "text": "Real"},
        ]
        assert openai_reply(parts).text == "# Real"

    def test_what_postgresql_cannot_hold_is_removed(self) -> None:
        assert openai_reply("a\0b \ud800 c").text == "ab \ufffd c"

    def test_a_pair_of_surrogates_split_by_a_stream_is_joined(self) -> None:
        def chunk(text: str) -> bytes:
            return sse({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]})

        *_, end, counts, done = OpenAI().events(OpenAI().reply("text"))
        assert read_reply("openai", [chunk("\ud83d"), chunk("\ude00"), end, counts, done]).text == "😀"

    def test_bytes_that_are_no_utf_8_cost_one_character(self) -> None:
        body = json.dumps(OpenAI().reply("a fine text")).encode().replace(b"fine", b"f\xffne")
        assert read_reply("openai", [body]).text == "a f\ufffdne text"

    def test_names_are_bounded_and_printable(self) -> None:
        document = OpenAI().reply("text", finish="st\0op\n" + "x" * 999) | {"model": "m\ud800\x1b[31m" + "y" * 999}
        reply = read_reply("openai", [json.dumps(document).encode()])
        assert reply.finish_reason.startswith("stopx") and len(reply.finish_reason) == 200
        assert reply.model.isprintable() and len(reply.model) == 200

    def test_the_other_choices_are_ignored(self) -> None:
        document = OpenAI().reply("first")
        document["choices"].append({**OpenAI().reply("second")["choices"][0], "index": 1})
        assert read_reply("openai", [json.dumps(document).encode()]).text == "first"


class TestUsage:
    @pytest.mark.parametrize("count", [-1, 2**31, 10**400, "12", True, 1.5, [], {}])
    @pytest.mark.parametrize("provider", PAID, ids=lambda provider: provider.id)
    def test_an_impossible_count_is_malformed(self, provider: Provider, count: object) -> None:
        document = provider.reply("text")
        usage = document.get("usage") or document["usageMetadata"]
        usage[next(iter(usage))] = count
        with pytest.raises(LLMTransientError, match="malformed"):
            read_reply(provider.id, [json.dumps(document).encode()])

    @pytest.mark.parametrize("provider", PAID, ids=lambda provider: provider.id)
    @pytest.mark.parametrize("usage", [None, {}, [], "none", 7])
    def test_without_counts_it_is_permanent(self, provider: Provider, usage: object) -> None:
        document = provider.reply("text")
        document["usage" if "usage" in document else "usageMetadata"] = usage
        with pytest.raises(LLMPermanentError, match="no token counts"):
            read_reply(provider.id, [json.dumps(document).encode()])

    @pytest.mark.parametrize("details", ["x", [], {"cached_tokens": "x"}, {"cached_tokens": 13}, {"cached_tokens": -1}])
    def test_a_unit_that_makes_no_sense_is_billed_in_full(self, details: object) -> None:
        document = OpenAI().reply("text")
        document["usage"] |= {
            "prompt_tokens_details": details,
            "completion_tokens_details": details,
            "total_tokens": "x",
        }
        assert read_reply("openai", [json.dumps(document).encode()]).usage == TokenUsage(12, 34)

    def test_sums_are_bounded_too(self) -> None:
        document = PAID[0].reply("text")
        document["usage"] |= {"input_tokens": 2**31 - 1, "cache_read_input_tokens": 1}
        with pytest.raises(LLMTransientError, match="malformed"):
            read_reply("claude", [json.dumps(document).encode()])

    def test_a_refused_reply_without_counts_may_be_billed(self) -> None:
        document = OpenAI().refusal()
        del document["usage"]
        with pytest.raises(LLMPermanentError, match="refused") as caught:
            read_reply("openai", [json.dumps(document).encode()])
        assert caught.value.may_be_billed


@pytest.mark.parametrize("seed", range(MADE))
def test_a_made_reply_is_read_and_counted_exactly(seed: int) -> None:
    expected = made(random.Random(seed))
    reply = read_reply(expected.provider.id, expected.body)
    assert reply.text == expected.text
    assert reply.usage == expected.usage
    assert reply.truncated == expected.truncated


def test_no_mutation_raises_anything_but_our_errors_or_passes_what_cannot_be_stored() -> None:
    rng = random.Random(14)
    for _ in range(MUTATIONS):
        original = made(rng)
        document = json.loads(json.dumps(original.document))
        for _ in range(rng.randint(1, 4)):
            mutate(rng, document)
        _check(original, read_or_error(original, damaged(rng, original, document)))


def test_no_mutation_of_what_no_one_needs_costs_a_paid_text() -> None:
    rng = random.Random(41)
    for _ in range(MUTATIONS):
        original = made(rng)
        document = json.loads(json.dumps(original.document))
        for _ in range(rng.randint(1, 4)):
            mutate_irrelevant(rng, document)
        reply = read_or_error(original, encoded(rng, original, document))
        assert isinstance(reply, LLMReply), (document, reply)
        assert reply.text == original.text
        totals = (reply.usage.input_tokens, reply.usage.output_tokens)
        assert totals[0] == original.usage.input_tokens
        # Without the total, it is unclear whether the completion's count includes the reasoning.
        assert totals[1] in (original.usage.output_tokens, original.usage.output_tokens - original.usage.reasoning)
        _check(original, reply)


def _check(original: Made, outcome: LLMReply | LLMError) -> None:
    if isinstance(outcome, LLMError):
        assert original.provider.id in str(outcome)
        assert not (outcome.may_be_billed and outcome.usage), "what is counted is not in doubt"
        strings: tuple[str, ...] = (str(outcome), outcome.hint, outcome.request_id)
        assert len(str(outcome)) < 2000
    else:
        assert outcome.text.strip()
        strings = (outcome.text, outcome.model, outcome.finish_reason, outcome.request_id)
        assert all(len(name) <= 200 for name in strings[1:])
    for string in strings:
        assert "\0" not in string
        string.encode()
    if (usage := outcome.usage) is not None:
        assert 0 <= usage.cached_read + usage.cache_write_5m + usage.cache_write_1h <= usage.input_tokens < 2**31
        assert 0 <= usage.reasoning <= usage.output_tokens < 2**31
