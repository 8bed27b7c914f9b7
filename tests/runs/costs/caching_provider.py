"""A fake provider with a prompt cache: OpenAI's reuses what prompts have in common, Claude's what requests mark."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from llm.types import TokenUsage
from tests.runs.fake_llm import Answer, FakeLLM

CHARS_PER_TOKEN = 4
# OpenAI's: the fewest tokens that are read from the cache, and the steps in which they are counted.
LEAST, STEP = 1024, 128


class CachingProvider:
    """Chooses the answers of a fake. The usage of each depends on the earlier prompts."""

    def __init__(self, fake: FakeLLM, texts: dict[str, str]) -> None:
        """`texts` maps a part of the end of a prompt, which identifies the step, to the answer."""
        self._fake = fake
        self._texts = texts
        self._seen: list[str] = []
        # Ends of marked blocks.
        self._written: set[str] = set()
        self.usages: list[TokenUsage] = []
        fake.choose = self._choose

    def _choose(self, prompt: str) -> Answer:
        content = self._fake.requests[-1]["messages"][-1]["content"]
        text = next(text for part, text in self._texts.items() if part in prompt.rpartition("\n\n")[2])
        read, written = self._marked(content) if isinstance(content, list) else (self._found(prompt), 0)
        usage = TokenUsage(tokens(prompt), tokens(text), cached_read=read, cache_write_5m=written)
        self._seen.append(prompt)
        self.usages.append(usage)
        return Answer(text=text, usage=usage)

    def _found(self, prompt: str) -> int:
        """Return how many tokens OpenAI's cache supplies.

        They are those that the prompt has in common with the beginning of an earlier one, rounded down to a multiple of
        STEP; 0 if there are fewer than LEAST.
        """
        shared = max((tokens(common(prompt, seen)) for seen in self._seen), default=0)
        return shared // STEP * STEP if shared >= LEAST else 0

    def _marked(self, content: list[dict[str, Any]]) -> tuple[int, int]:
        """Return how many tokens the last mark of a request to Claude reads from the cache, and how many it writes."""
        ends = list(accumulate(block["text"] for block in content))
        marked = [number for number, block in enumerate(content) if "cache_control" in block]
        if not marked:
            return 0, 0
        end = ends[marked[-1]]
        read = max((tokens(one) for one in ends[: marked[-1] + 1] if one in self._written), default=0)
        if tokens(end) < LEAST:
            return 0, 0
        self._written.add(end)
        return read, tokens(end) - read


def tokens(text: str) -> int:
    return len(text) // CHARS_PER_TOKEN


def common(one: str, other: str) -> str:
    number = next((n for n, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
    return one[: min(len(one), len(other)) if number is None else number]
