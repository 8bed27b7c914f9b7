"""An OpenAI-compatible server that records when it was called: a neutral observer of every worker.

`python -m benchmarks.engine.instant_llm [SECONDS]` serves on a free loopback port, which it prints. It replies
immediately or, if a number of seconds is given, streams its reply evenly over that time, one token per event, as models
do.
"""

import asyncio
import json
import re
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.children import child

SENTENCE = "Good coffee begins with fresh beans, clean water and a little patience. "
TEXT = SENTENCE * 20
TOKENS = 350
USAGE = {"prompt_tokens": 300, "completion_tokens": TOKENS, "total_tokens": 300 + TOKENS}
FIELDS = {"id": "chatcmpl-0", "created": 0, "model": "instant"}
COMPLETION = json.dumps(
    {
        **FIELDS,
        "object": "chat.completion",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": TEXT}}],
        "usage": USAGE,
    }
)
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
# How often a stream continues; a network delivers several tokens together, too.
TICK_S = 0.25
# The number in a prompt by which the benchmark recognizes a run.
RUN = re.compile(rb"run-(\d+)")


@dataclass
class Call:
    """One call. Times are in seconds of the monotonic clock, which all processes of the machine share."""

    began: float
    # None if it is still in progress or was abandoned.
    ended: float | None = None
    # The number in the prompt.
    run: int | None = None


class InstantLLM(asyncio.Protocol):
    """POST calls the model, GET returns all calls, DELETE clears them."""

    calls: list[Call] = []
    # How long an answer takes.
    seconds = 0.0

    def __init__(self) -> None:
        self._received = b""
        self._streaming: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._streaming is not None:
            self._streaming.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        if separator and len(rest) >= _content_length(head):
            self._received = b""
            self._answer(head.partition(b" ")[0], rest)

    def _answer(self, method: bytes, body: bytes) -> None:
        if method == b"POST":
            self._complete(body)
            return
        if method == b"DELETE":
            self.calls.clear()
        self._transport.write(_response(json.dumps([vars(call) for call in self.calls])))

    def _complete(self, body: bytes) -> None:
        number = RUN.search(body)
        call = Call(time.monotonic(), run=int(number[1]) if number else None)
        self.calls.append(call)
        if self.seconds:
            self._streaming = asyncio.ensure_future(self._stream(call))
        else:
            self._transport.write(_response(COMPLETION))
            call.ended = time.monotonic()

    async def _stream(self, call: Call) -> None:
        events = _events()
        self._transport.write(STREAM)
        sent = 0
        while sent < len(events):
            await asyncio.sleep(min(TICK_S, max(0.0, call.began + self.seconds - time.monotonic())))
            part = min(1.0, (time.monotonic() - call.began) / self.seconds)
            due = int(part * len(events))
            if due > sent:
                self._transport.write(_chunk(b"".join(events[sent:due])))
                sent = due
        self._transport.write(_chunk(b"data: [DONE]\n\n") + _chunk(b""))
        call.ended = time.monotonic()


@dataclass(frozen=True)
class Observer:
    """The running server, as the benchmark uses it."""

    # http://127.0.0.1:PORT/v1
    url: str

    def forget(self) -> None:
        self._ask("DELETE")

    def calls(self) -> list[Call]:
        """Return all calls in the order in which they began."""
        found: list[Any] = self._ask("GET")
        return [Call(**call) for call in found]

    def times(self) -> list[float]:
        """Return when each call began, in order."""
        return [call.began for call in self.calls()]

    def _ask(self, method: str) -> list[dict[str, Any]]:
        with urllib.request.urlopen(urllib.request.Request(self.url, method=method), timeout=30) as response:
            calls: list[dict[str, Any]] = json.load(response)
            return calls


@contextmanager
def instant_llm(log: Path, seconds: float = 0.0) -> Iterator[Observer]:
    """Run the server in a separate process for the duration of the block; each reply of the model takes `seconds`."""
    with child(["-m", "benchmarks.engine.instant_llm", str(seconds)], log=log) as server:
        yield Observer(f"http://127.0.0.1:{server.answer()}/v1")


async def serve(seconds: float) -> None:
    InstantLLM.seconds = seconds
    server = await asyncio.get_running_loop().create_server(InstantLLM, "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def _events() -> list[bytes]:
    """Return the events of a stream: the text in parts, the finish reason, and the usage."""
    size = -(-len(TEXT) // TOKENS)
    parts = [TEXT[start : start + size] for start in range(0, len(TEXT), size)]
    choices: list[list[object]] = [[{"index": 0, "delta": {"content": part}}] for part in parts]
    choices.append([{"index": 0, "delta": {}, "finish_reason": "stop"}])
    documents = [{**FIELDS, "object": "chat.completion.chunk", "choices": choice} for choice in choices]
    documents.append({**FIELDS, "object": "chat.completion.chunk", "choices": [], "usage": USAGE})
    return [f"data: {json.dumps(document)}\n\n".encode() for document in documents]


def _chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0


def _response(body: str) -> bytes:
    content = body.encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1]) if len(sys.argv) > 1 else 0.0))
