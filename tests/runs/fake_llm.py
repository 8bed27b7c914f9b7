"""A paid provider for tests: the three wire formats over HTTP, with prepared answers and faults.

Its `ledger` records what the provider would bill for each call, independently of what the product stores.
"""

import itertools
import json
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

from llm.types import TokenUsage
from tests.llm.formats import Claude, Gemini, OpenAI, Provider, text_of

INPUT_TOKENS, OUTPUT_TOKENS = 1000, 200
USAGE = TokenUsage(INPUT_TOKENS, OUTPUT_TOKENS)

# What goes wrong with an answer of status 200:
# - "hang": no headers arrive; "stall": nothing arrives after the first part of the text, until `gate` is set or the
#   fake is closed
# - "cut": the connection is closed in the middle; "malformed": what arrives is not a reply
# - "error": an error event ends the stream; "slow": the parts arrive one by one, `pause_s` apart
Fault = Literal["", "hang", "stall", "cut", "malformed", "error", "slow"]


@dataclass(frozen=True)
class Answer:
    status: int = 200
    text: str = "# Title\n\nText."
    headers: Mapping[str, str] = field(default_factory=dict)
    # Answers only once this is set; None: immediately.
    gate: threading.Event | None = None
    # "length" in the wire format: the text ends because the output limit was reached.
    truncated: bool = False
    # The finish reason in the wire format; None: as `truncated` says.
    finish: str | None = None
    fault: Fault = ""
    # The pause between two parts of a slow answer.
    pause_s: float = 0.05
    # What the provider charges for it.
    usage: TokenUsage = USAGE


@dataclass(frozen=True)
class Billed:
    """One call as the provider saw it."""

    request_id: str
    # By the wall clock, when the request had arrived.
    at: float
    model: str
    prompt: str
    status: int
    fault: Fault
    # What the provider charges: every answer with text, unless it was refused with a status or an error.
    usage: TokenUsage | None
    # Whether the client took everything that was to be sent. It may still have lost it afterwards.
    delivered: bool


class FakeLLM:
    """Gives the prepared `answers`, the oldest first.

    Once they are used up, it gives the answer that `choose` returns or, without `choose`, the prompt itself if `echo`
    is set, else a text of its own.
    """

    def __init__(self) -> None:
        self.answers: deque[Answer] = deque()
        # Chooses the answer to a prompt, such as a random fault; None: as `echo` says.
        self.choose: Callable[[str], Answer] | None = None
        self.prompts: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.ledger: list[Billed] = []
        # Answer with the prompt itself, so that a test sees who was answered.
        self.echo = False
        # Whether it streams to those who ask for a stream; otherwise it answers with the whole reply.
        self.streams = True
        self.asked = threading.Event()
        self.closed = threading.Event()
        # For the request ids.
        self.numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def url(self) -> str:
        """The base URL for OpenAI's wire."""
        return f"{self.host_url}/v1"

    @property
    def host_url(self) -> str:
        """The base URL for Claude's and Gemini's wires."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def reply_to(self, request: dict[str, Any]) -> Answer:
        """Record the request and its prompt, and return the answer to it."""
        with self._lock:
            self.requests.append(request)
            self.prompts.append(_prompt(request))
            prompt, number = self.prompts[-1], len(self.prompts)
            answer = self.answers.popleft() if self.answers else None
        self.asked.set()
        if answer is None and self.choose is not None:
            answer = self.choose(prompt)
        return answer or Answer(text=prompt if self.echo else f"# Answer {number}\n\nText.")

    def wait(self, gate: threading.Event | None, seconds: float) -> None:
        """Wait until the fake is closed, the gate (if any) is set, or `seconds` have passed."""
        deadline = time.monotonic() + seconds
        while not self.closed.wait(0.01) and time.monotonic() < deadline:
            if gate is not None and gate.is_set():
                return

    def book(self, call: Billed) -> None:
        with self._lock:
            self.ledger.append(call)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Headers and body in one packet: otherwise each answer waits for the client's delayed acknowledgement.
            wbufsize = -1
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                body = self.rfile.read(size)
                if len(body) < size:
                    return  # the worker was killed in the middle of its request
                request = json.loads(body)
                provider = _provider(self.path)
                model = request.get("model") or self.path.rpartition("/")[2].partition(":")[0]
                at = time.time()
                answer, request_id = fake.reply_to(request), f"req_{next(fake.numbers):08d}"
                if answer.gate is not None and answer.fault != "stall":
                    fake.wait(answer.gate, 60)
                streams = fake.streams and provider.streams(self.path, request)
                call = Billed(
                    request_id,
                    at,
                    model,
                    _prompt(request),
                    answer.status,
                    answer.fault,
                    _usage(answer),
                    delivered=False,
                )
                # Before the answer is sent, so that the ledger contains every answer that anyone has seen.
                fake.book(call)
                try:
                    complete = _Sender(self, fake, provider, call).send(answer, streams=streams)
                except OSError:
                    complete = False  # the worker that asked was killed, or gave up
                if complete:
                    fake.delivered(call)
                else:
                    self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        return Handler

    def delivered(self, call: Billed) -> None:
        with self._lock:
            self.ledger[self.ledger.index(call)] = replace(call, delivered=True)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # 200 calls may begin at the same time.
    request_queue_size = 512

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print no traceback for an `OSError`: the client was killed or has closed the connection."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Sender:
    """Sends one answer; `send` returns whether all of it was sent."""

    def __init__(self, http: BaseHTTPRequestHandler, fake: FakeLLM, provider: Provider, call: Billed) -> None:
        self._http = http
        self._fake = fake
        self._provider = provider
        self._call = call

    def send(self, answer: Answer, *, streams: bool) -> bool:
        if answer.status != 200:
            return self._whole(answer, {"error": {"message": answer.text, "type": "error", "code": None}})
        if answer.fault == "hang":
            self._fake.wait(answer.gate, 3600)
            return False
        finish = answer.finish or (self._provider.truncated if answer.truncated else None)
        reply = {**self._provider.reply(answer.text, finish=finish, usage=answer.usage), "model": self._call.model}
        if streams:
            return self._stream(answer, self._provider.events(reply))
        return self._whole(answer, reply)

    def _whole(self, answer: Answer, document: dict[str, Any]) -> bool:
        body = json.dumps(document).encode()
        if answer.fault == "malformed":
            body = b"<html>502 Bad Gateway</html>"
        elif answer.fault == "error":
            body = json.dumps(self._provider.error(500, "Internal error")).encode()
        self._head(answer, "application/json", ("Content-Length", str(len(body))))
        half = len(body) // 2
        self._write(body[:half])
        if answer.fault in ("cut", "stall"):
            return self._break(answer)
        if answer.fault == "slow":
            time.sleep(answer.pause_s)
        self._write(body[half:])
        return True

    def _stream(self, answer: Answer, events: list[bytes]) -> bool:
        self._head(answer, "text/event-stream", ("Transfer-Encoding", "chunked"))
        middle = len(events) // 2
        for number, event in enumerate(events):
            if number == middle and answer.fault in ("cut", "stall"):
                return self._break(answer)
            if number == middle and answer.fault == "malformed":
                self._chunk(b"data: {not JSON\n\n")
            if number == middle and answer.fault == "error":
                self._chunk(self._provider.error_event(500, "Internal error"))
                break
            if answer.fault == "slow":
                time.sleep(answer.pause_s)
            self._chunk(event)
        self._write(b"0\r\n\r\n")
        return True

    def _break(self, answer: Answer) -> bool:
        if answer.fault == "stall":
            self._fake.wait(answer.gate, 3600)
        return False

    def _head(self, answer: Answer, content_type: str, length: tuple[str, str]) -> None:
        self._http.send_response(answer.status)
        headers = {"Content-Type": content_type, "x-request-id": self._call.request_id, **answer.headers}
        for name, value in (*headers.items(), length):
            self._http.send_header(name, value)
        self._http.end_headers()

    def _chunk(self, part: bytes) -> None:
        self._write(b"%x\r\n%b\r\n" % (len(part), part))

    def _write(self, data: bytes) -> None:
        self._http.wfile.write(data)
        self._http.wfile.flush()


def _provider(path: str) -> Provider:
    if path.endswith("/messages"):
        return Claude()
    return Gemini() if ":" in path else OpenAI()


def _prompt(request: dict[str, Any]) -> str:
    if "contents" in request:
        text: str = request["contents"][0]["parts"][0]["text"]
        return text
    return text_of(request["messages"][-1]["content"])


def _usage(answer: Answer) -> TokenUsage | None:
    """Return what the provider charges; None if it refused the request or failed.

    An answer that is lost on the way is charged.
    """
    if answer.status != 200 or answer.fault == "error":
        return None
    return answer.usage
