"""An OpenAI-compatible server that replies at once and records when it was called: a neutral observer of every worker.

`python -m benchmarks.engine.instant_llm` serves on a free loopback port, which it prints.
"""

import asyncio
import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.children import child

SENTENCE = "Good coffee begins with fresh beans, clean water and a little patience. "
COMPLETION = json.dumps(
    {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "created": 0,
        "model": "instant",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": SENTENCE * 20}}],
        "usage": {"prompt_tokens": 300, "completion_tokens": 350, "total_tokens": 650},
    }
)


class InstantLLM(asyncio.Protocol):
    """POST calls the model, GET returns the times of all calls, DELETE clears them."""

    # Seconds of the monotonic clock, which all processes of the machine share.
    calls: list[float] = []

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        if separator and len(rest) >= _content_length(head):
            self._received = b""
            self._transport.write(_response(self._answer(head.partition(b" ")[0])))

    def _answer(self, method: bytes) -> str:
        if method == b"POST":
            self.calls.append(time.monotonic())
            return COMPLETION
        if method == b"DELETE":
            self.calls.clear()
        return json.dumps(self.calls)


@dataclass(frozen=True)
class Observer:
    """The running server, seen from the benchmark."""

    # http://127.0.0.1:PORT/v1
    url: str

    def forget(self) -> None:
        self._ask("DELETE")

    def times(self) -> list[float]:
        """Return when each call came, in seconds of an arbitrary clock, in order."""
        return self._ask("GET")

    def _ask(self, method: str) -> list[float]:
        with urllib.request.urlopen(urllib.request.Request(self.url, method=method), timeout=30) as response:
            times: list[float] = json.load(response)
            return times


@contextmanager
def instant_llm(log: Path) -> Iterator[Observer]:
    """Run the server in a process of its own."""
    with child(["-m", "benchmarks.engine.instant_llm"], log=log) as server:
        yield Observer(f"http://127.0.0.1:{server.answer()}/v1")


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(InstantLLM, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


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
    asyncio.run(serve())
