"""A paid provider for tests: OpenAI's wire format over HTTP, which gives prepared answers and counts requests."""

import json
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

INPUT_TOKENS, OUTPUT_TOKENS = 1000, 200


@dataclass(frozen=True)
class Answer:
    status: int = 200
    text: str = "# Title\n\nText."
    headers: Mapping[str, str] = field(default_factory=dict)
    # Answers only once this is set; None: at once.
    gate: threading.Event | None = None


class FakeLLM:
    """Answers from `answers`, the oldest first; once they are used up, with a text of its own."""

    def __init__(self) -> None:
        self.answers: deque[Answer] = deque()
        self.prompts: list[str] = []
        # Answer with the prompt itself, so that a test sees who was answered.
        self.echo = False
        self.asked = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def reply_to(self, request: dict[str, Any]) -> Answer:
        self.prompts.append(request["messages"][-1]["content"])
        self.asked.set()
        text = self.prompts[-1] if self.echo else f"# Answer {len(self.prompts)}\n\nText."
        answer = self.answers.popleft() if self.answers else Answer(text=text)
        if answer.gate is not None:
            answer.gate.wait(60)
        return answer

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                answer = fake.reply_to(request)
                body = json.dumps(_body(answer, request["model"])).encode()
                try:
                    self.send_response(answer.status)
                    for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except ConnectionError:
                    pass  # the worker that asked was killed

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        return Handler


def _body(answer: Answer, model: str) -> dict[str, Any]:
    if answer.status != 200:
        return {"error": {"message": answer.text, "type": "error", "code": None}}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer.text}}],
        "usage": {
            "prompt_tokens": INPUT_TOKENS,
            "completion_tokens": OUTPUT_TOKENS,
            "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
        },
    }
