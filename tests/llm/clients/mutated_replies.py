"""Generated replies that are randomly damaged, as a faulty server might send them."""

import copy
import json
import random
from typing import Any

from llm.errors import LLMError
from llm.types import LLMReply
from tests.llm.clients.made_replies import Made, read_reply
from tests.llm.formats import Document

# Values that servers send in the wrong place, and those that break careless code.
JUNK: tuple[Any, ...] = (
    *(None, True, 0, -1, 2**31, 10**30, 1.5, float("nan")),
    *("", "x", "a\0b", "\ud800"),
    *([], [[]], [None], {}, {"a": {}}),
)
# No text, count or end depends on these, so nothing in them may cost a paid text.
IRRELEVANT = frozenset(
    {
        *("id", "object", "created", "model", "logprobs", "annotations", "service_tier", "audio_tokens", "role"),
        *("stop_sequence", "stop_details", "citations", "signature", "modelVersion", "responseId", "safetyRatings"),
        *("promptTokensDetails", "prompt_tokens_details", "completion_tokens_details", "total_tokens"),
        *("totalTokenCount", "output_tokens_details", "brand_new"),
    }
)


def read_or_error(original: Made, body: bytes) -> LLMReply | LLMError:
    try:
        return read_reply(original.provider.id, [body])
    except LLMError as error:
        return error


def damaged(rng: random.Random, original: Made, document: Any) -> bytes:
    """Return the mutated reply, sometimes with damage to the bytes themselves."""
    try:
        body = bytearray(encoded(rng, original, document))
    except (AttributeError, KeyError, TypeError, ValueError):  # the format's own code cannot stream it any more
        body = bytearray(json.dumps(document).encode())
    if rng.random() < 0.5:
        for _ in range(rng.randint(1, 5)):
            body[rng.randrange(len(body))] = rng.randrange(256)
    if rng.random() < 0.2:
        del body[rng.randrange(len(body)) :]
    return bytes(body)


def encoded(rng: random.Random, original: Made, document: Document) -> bytes:
    if rng.random() < 0.5:
        return b"".join(original.provider.events(document))
    return json.dumps(document).encode()


def mutate(rng: random.Random, value: Any) -> None:
    """Change, remove or insert one value at a random place in the document."""
    container = rng.choice([each for each in _walk(value) if each] or [value])
    if isinstance(container, dict):
        key = rng.choice(list(container)) if container else "brand_new"
        if rng.random() < 0.3:
            container.pop(key, None)
        else:
            container[key] = _junk(rng)
    elif container:
        index = rng.randrange(len(container))
        rng.choice([container.__delitem__, lambda at: container.insert(at, _junk(rng))])(index)


def mutate_irrelevant(rng: random.Random, value: Any) -> None:
    places = [(each, key) for each in _walk(value) if isinstance(each, dict) for key in each if key in IRRELEVANT]
    container, key = rng.choice(places)
    if rng.random() < 0.2:
        container["brand_new"] = _junk(rng)
    elif rng.random() < 0.3:
        del container[key]
    else:
        container[key] = _junk(rng)


def _junk(rng: random.Random) -> Any:
    return copy.deepcopy(rng.choice(JUNK))


def _walk(value: Any) -> list[Any]:
    """Return all objects and lists in a document."""
    if isinstance(value, dict):
        return [value, *(each for inner in value.values() for each in _walk(inner))]
    if isinstance(value, list):
        return [value, *(each for inner in value for each in _walk(inner))]
    return []
