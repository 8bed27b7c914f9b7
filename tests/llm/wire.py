"""Small HTTP servers that speak the paid providers' wire formats, written from their API references."""

import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings

Document = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What the server does with a request."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    # How many more bytes Content-Length announces than are sent.
    missing: int = 0
    # Send nothing until the test is over.
    silent: bool = False
    # Send white space, which JSON allows in front, until the client leaves.
    trickle: bool = False

    @classmethod
    def of(cls, document: object, status: int = 200, **headers: str) -> "Answer":
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(json.dumps(document).encode(), status, names)


@dataclass(frozen=True)
class Seen:
    path: str
    # Names in lower case.
    headers: dict[str, str]
    body: Document


class Provider(ABC):
    """One provider's formats."""

    id: str
    variable: str
    key_header: str
    # What the SDK expects after the host in `api_base_url`.
    base_path = ""
    # The ordinary finish, the one at the limit, and a refusal.
    finished: str
    truncated: str
    explains_refusals = True

    @abstractmethod
    def path(self, model: str) -> str: ...

    @abstractmethod
    def reply(self, text: str, *, finish: str | None = None) -> Document:
        """A reply of 12 input and 34 output tokens."""

    @abstractmethod
    def without_usage(self) -> Document: ...

    @abstractmethod
    def refusal(self) -> Document:
        """A refusal with partial text; its reason is "not for me" if the API explains refusals."""

    @abstractmethod
    def error(self, status: int, message: str) -> Document: ...

    @abstractmethod
    def asked(self, body: Document) -> tuple[str, str, int]:
        """Return system text, prompt and output limit of a request."""


class Claude(Provider):
    id = "claude"
    variable = "ANTHROPIC_API_KEY"
    key_header = "authorization"
    finished = "end_turn"
    truncated = "max_tokens"

    def path(self, model: str) -> str:
        return "/v1/messages"

    def reply(self, text: str, *, finish: str | None = None) -> Document:
        thinking = {"type": "thinking", "thinking": "", "signature": "EqQBCgIYAhIM"}
        return {
            "id": "msg_013Zva2CMHLNnXjNJJKqJ2EF",
            "type": "message",
            "role": "assistant",
            "model": "model-1-20261101",
            "content": [thinking, {"type": "text", "text": text, "citations": None}] if text else [thinking],
            "stop_reason": finish or self.finished,
            "stop_sequence": None,
            "stop_details": None,
            # Cached input is counted separately: 12 in total.
            "usage": {
                "input_tokens": 5,
                "cache_creation_input_tokens": 4,
                "cache_read_input_tokens": 3,
                "output_tokens": 34,
                "service_tier": "standard",
            },
        }

    def without_usage(self) -> Document:
        reply = self.reply("text")
        del reply["usage"]
        return reply

    def refusal(self) -> Document:
        details = {"type": "refusal", "category": "general_harms", "explanation": "not for me"}
        return {**self.reply("begun", finish="refusal"), "stop_details": details}

    def error(self, status: int, message: str) -> Document:
        kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error", 529: "overloaded_error"}
        error = {"type": kinds.get(status, "api_error"), "message": message}
        return {"type": "error", "error": error, "request_id": "req_011CSHoEeqs5C35K2UUqR7Fy"}

    def asked(self, body: Document) -> tuple[str, str, int]:
        (message,) = body["messages"]
        assert message["role"] == "user"
        return body.get("system", ""), message["content"], body["max_tokens"]


class Gemini(Provider):
    id = "gemini"
    variable = "GEMINI_API_KEY"
    key_header = "x-goog-api-key"
    finished = "STOP"
    truncated = "MAX_TOKENS"
    explains_refusals = False

    def path(self, model: str) -> str:
        return f"/v1/models/{model}:generateContent"

    def reply(self, text: str, *, finish: str | None = None) -> Document:
        parts: list[Document] = [{"text": "hm", "thought": True}]
        if text:
            parts.append({"text": text})
        return {
            "candidates": [
                {"content": {"parts": parts, "role": "model"}, "finishReason": finish or self.finished, "index": 0}
            ],
            # Thoughts are output: 34 in total.
            "usageMetadata": {
                "promptTokenCount": 12,
                "candidatesTokenCount": 30,
                "thoughtsTokenCount": 4,
                "totalTokenCount": 46,
                "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 12}],
            },
            "modelVersion": "model-1-20261101",
            "responseId": "kfR8Z5bvGK6ngLUPhNWyqQg",
        }

    def without_usage(self) -> Document:
        reply = self.reply("text")
        del reply["usageMetadata"]
        return reply

    def refusal(self) -> Document:
        return self.reply("begun", finish="PROHIBITED_CONTENT")

    def error(self, status: int, message: str) -> Document:
        names = {401: "UNAUTHENTICATED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL"}
        return {"error": {"code": status, "message": message, "status": names.get(status, "UNAVAILABLE")}}

    def asked(self, body: Document) -> tuple[str, str, int]:
        (content,) = body["contents"]
        system = body.get("systemInstruction", {"parts": [{"text": ""}]})
        limit = body["generationConfig"]["maxOutputTokens"]
        return system["parts"][0]["text"], content["parts"][0]["text"], limit


class OpenAI(Provider):
    id = "openai"
    variable = "OPENAI_API_KEY"
    key_header = "authorization"
    base_path = "/v1"
    finished = "stop"
    truncated = "length"
    limit_parameter = "max_completion_tokens"

    def path(self, model: str) -> str:
        return "/v1/chat/completions"

    def reply(self, text: str, *, finish: str | None = None) -> Document:
        return {
            "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
            "object": "chat.completion",
            "created": 1741569952,
            "model": "model-1-20261101",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text or None, "refusal": None, "annotations": []},
                    "logprobs": None,
                    "finish_reason": finish or self.finished,
                }
            ],
            "usage": {
                "prompt_tokens": 12,
                "completion_tokens": 34,
                "total_tokens": 46,
                "completion_tokens_details": {"reasoning_tokens": 4},
            },
            "service_tier": "default",
        }

    def without_usage(self) -> Document:
        reply = self.reply("text")
        del reply["usage"]
        return reply

    def refusal(self) -> Document:
        reply = self.reply("begun", finish="content_filter")
        reply["choices"][0]["message"]["refusal"] = "not for me"
        return reply

    def error(self, status: int, message: str) -> Document:
        codes = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}
        return {"error": {"message": message, "type": "error", "param": None, "code": codes.get(status)}}

    def asked(self, body: Document) -> tuple[str, str, int]:
        messages = {message["role"]: message["content"] for message in body["messages"]}
        return messages.get("system", ""), messages["user"], body[self.limit_parameter]


class Local(OpenAI):
    id = "local"
    limit_parameter = "max_tokens"


def allow_server(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow providers to use a test's server, also in processes that a test starts."""
    entry = urlsplit(url).netloc
    monkeypatch.setenv("LLM_ALLOWED_HOSTS", entry)
    monkeypatch.setattr(settings, "LLM_ALLOWED_HOSTS", [entry])


class WireServer:
    """Sends `answer` to every request, and records the requests."""

    def __init__(self) -> None:
        self.answer = Answer()
        self.seen: list[Seen] = []
        self.over = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send(server.answer)

            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                headers = {name.lower(): value for name, value in self.headers.items()}
                server.seen.append(Seen(self.path, headers, json.loads(self.rfile.read(length))))
                if server.answer.silent:
                    server.over.wait()
                else:
                    self._send(server.answer)

            def _send(self, answer: Answer) -> None:
                self.send_response(answer.status)
                for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body) + answer.missing))
                self.end_headers()
                try:
                    while answer.trickle and not server.over.wait(0.02):
                        self.wfile.write(b" ")
                    self.wfile.write(answer.body)
                except OSError:
                    pass  # the client left

            def log_message(self, *args: object) -> None:
                """Log nothing: the tests check `seen`."""

        return Handler

    @contextmanager
    def running(self) -> Iterator["WireServer"]:
        thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self.over.set()
            self._http.shutdown()
            thread.join()
            self._http.server_close()
