"""Randomly generated replies in every wire format, each with the result that it must be parsed into."""

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from llm.clients.abort import Abort
from llm.clients.body import Limits
from llm.clients.claude import ClaudeAssembly
from llm.clients.exchange import Response, judged, receive
from llm.clients.failures import Call
from llm.clients.gemini import GeminiAssembly
from llm.clients.openai import OpenAIAssembly
from llm.clients.replies import Assembly
from llm.clients.watch import Watch
from llm.types import LLMReply, LLMRequest, TokenUsage
from tests.llm.formats import PAID, Document, Provider, sse

ASSEMBLIES: dict[str, Callable[[Limits], Assembly]] = {
    "claude": ClaudeAssembly,
    "gemini": GeminiAssembly,
    "openai": OpenAIAssembly,
}
REQUEST = LLMRequest(model="model-1", prompt="Write.", max_output_tokens=16_000, timeout_s=60)
TEXTS = (
    "# T",
    "# 雨傘の選び方\n\n雨の日でも快適に。",
    "Déjà vu – “quotes”, tabs\tand\r\nline ends\u2028\u2029 \x85",
    "emoji 👩‍👩‍👧‍👦 𝕬𝖇",
    "A tag <think> in the middle </think> is text",
    '{"json": "in the text", "n": [1, 2]}\n\ndata: [DONE]\n\n',
)


@dataclass(frozen=True)
class Made:
    """A reply, and the result that it must be parsed into."""

    provider: Provider
    document: Document
    body: tuple[bytes, ...]
    text: str
    usage: TokenUsage
    truncated: bool


def read_reply(provider_id: str, body: Iterable[bytes]) -> LLMReply:
    """Read a body as the provider's client reads it from the network; raise `LLMError` as the client does."""
    limits = Limits.for_tokens(REQUEST.max_output_tokens)
    response = Response(ASSEMBLIES[provider_id](limits), limits, status=200)
    call = Call(provider_id, REQUEST, "sk-test")
    watch = Watch(REQUEST.timeout_s, None)
    with Abort().interrupting(watch.interrupt):
        receive(response, body, watch)
    return judged(call, response)


def made(rng: random.Random) -> Made:
    """Make a reply in a random wire format: whole or streamed, with or without cached input, reasoning and noise."""
    provider = rng.choice(PAID)
    text = "".join(rng.choices(TEXTS, k=rng.randint(1, 6)))
    usage = _usage(rng, provider)
    truncated = rng.random() < 0.2
    document = provider.reply(text, finish=provider.truncated if truncated else None, usage=usage)
    _VARIATIONS[provider.id](rng, document)
    body = _streamed(rng, provider, document) if rng.random() < 0.7 else (_json(rng, document),)
    return Made(provider, document, _cut_anywhere(rng, b"".join(body)), text, usage, truncated)


def _usage(rng: random.Random, provider: Provider) -> TokenUsage:
    """Return random counts of the units that the provider's wire format can state."""
    new, output = rng.choice([0, 1, 999, 10**6]), rng.randint(1, 10**5)
    cached = rng.choice([0, 1, 4096, 10**6])
    written_5m, written_1h = (rng.choice([0, 600]), rng.choice([0, 400])) if provider.id == "claude" else (0, 0)
    reasoning = rng.choice([0, rng.randint(0, output - 1)])
    return TokenUsage(max(1, new + cached + written_5m + written_1h), output, cached, written_5m, written_1h, reasoning)


def _vary_claude(rng: random.Random, document: Document) -> None:
    usage = document["usage"]
    blocks = document["content"]
    if rng.random() < 0.3:
        blocks.insert(0, {"type": "thinking", "thinking": "private reasoning", "signature": "sig"})
    if rng.random() < 0.3:
        blocks.insert(rng.randint(0, len(blocks)), {"type": "brand_new", "text": "not for the article", "foo": 1})
    if rng.random() < 0.3:
        blocks.insert(0, {"type": "redacted_thinking", "data": "…"})
    for name in [name for name, value in usage.items() if value == 0 and name not in ("input_tokens", "output_tokens")]:
        if rng.random() < 0.5:
            usage[name] = None
    if rng.random() < 0.3 and not usage["cache_creation"]["ephemeral_1h_input_tokens"]:
        del usage["cache_creation"]


def _vary_gemini(rng: random.Random, document: Document) -> None:
    if rng.random() < 0.3:
        document["candidates"][0]["content"]["parts"].insert(0, {"text": "private reasoning", "thought": True})
    if rng.random() < 0.3:
        document["candidates"][0]["safetyRatings"] = [{"category": "X", "probability": "NEGLIGIBLE"}]
    if rng.random() < 0.3:
        document["promptFeedback"] = {}


def _vary_openai(rng: random.Random, document: Document) -> None:
    message, usage = document["choices"][0]["message"], document["usage"]
    if rng.random() < 0.3:
        message["reasoning_content"] = "private reasoning"
    if rng.random() < 0.3:
        message["content"] = f"<think>private\n\nreasoning</think>\n\n{message['content']}"
    if rng.random() < 0.3 and not usage["completion_tokens_details"]["reasoning_tokens"]:
        usage["completion_tokens_details"] = None
    if rng.random() < 0.3:
        usage["completion_tokens"] = float(usage["completion_tokens"])
    if rng.random() < 0.3 and usage["completion_tokens_details"]:
        # As counted by servers that state reasoning separately from the completion.
        usage["completion_tokens"] -= usage["completion_tokens_details"]["reasoning_tokens"]


_VARIATIONS: dict[str, Callable[[random.Random, Document], None]] = {
    "claude": _vary_claude,
    "gemini": _vary_gemini,
    "openai": _vary_openai,
}


def _streamed(rng: random.Random, provider: Provider, document: Document) -> tuple[bytes, ...]:
    events = provider.events(document)
    noise = (b": keep-alive\n\n", b"\n", sse({"type": "ping"}, "ping") if provider.id == "claude" else b":\n\n")
    for _ in range(rng.randint(0, 4)):
        events.insert(rng.randint(0, len(events)), rng.choice(noise))
    line_end = rng.choice([b"\n", b"\r\n"])
    return tuple(event.replace(b"\n", line_end) for event in events)


def _json(rng: random.Random, document: Document) -> bytes:
    space = rng.choice([b"", b"\n\n", b"\xef\xbb\xbf", b" " * 100])
    return space + json.dumps(document, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, 2])).encode()


def _cut_anywhere(rng: random.Random, body: bytes) -> tuple[bytes, ...]:
    """Split the body as the network may: in the middle of a line or of a character."""
    size = rng.choice([1, 5, 100, 10**6])
    return tuple(body[start : start + size] for start in range(0, len(body), size))
