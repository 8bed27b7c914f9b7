"""The providers' wire formats, written from API references: whole replies, streams, errors and requests."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from llm.types import TokenUsage

Document = dict[str, Any]

MODEL = "model-1-20261101"
DONE = b"data: [DONE]\n\n"


def sse(document: object, event: str = "") -> bytes:
    """Return one server-sent event."""
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {json.dumps(document)}\n\n".encode()


def pieces(text: str, size: int = 9) -> Iterator[str]:
    """Yield the text in pieces, as a stream delivers it."""
    yield from (text[start : start + size] for start in range(0, len(text), size))


def text_of(content: str | list[Document]) -> str:
    """Return a message's text, which may be in blocks."""
    return content if isinstance(content, str) else "".join(block["text"] for block in content)


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
    # What `reply` states unless told otherwise: 12 input and 34 output tokens, and some units.
    usage: TokenUsage

    @abstractmethod
    def path(self, model: str) -> str: ...

    @abstractmethod
    def reply(self, text: str, *, finish: str | None = None, usage: TokenUsage | None = None) -> Document:
        """Return a whole reply, as the API sends it without streaming."""

    @abstractmethod
    def events(self, reply: Document) -> list[bytes]:
        """Return a whole reply as the events of a stream."""

    @abstractmethod
    def error_event(self, status: int, message: str) -> bytes:
        """Return an error as an event of a stream."""

    @abstractmethod
    def without_usage(self) -> Document: ...

    @abstractmethod
    def refusal(self) -> Document:
        """Return a refusal with partial text; its reason is "not for me" if the API explains refusals."""

    @abstractmethod
    def error(self, status: int, message: str) -> Document: ...

    @abstractmethod
    def asked(self, body: Document) -> tuple[str, str, int]:
        """Return (system text, prompt, output limit) of a request."""

    @abstractmethod
    def streams(self, path: str, body: Document) -> bool:
        """Return whether a request asks for a stream."""


class Claude(Provider):
    id = "claude"
    variable = "ANTHROPIC_API_KEY"
    key_header = "authorization"
    finished = "end_turn"
    truncated = "max_tokens"
    usage = TokenUsage(12, 34, cached_read=3, cache_write_5m=4)

    def path(self, model: str) -> str:
        return "/v1/messages"

    def reply(self, text: str, *, finish: str | None = None, usage: TokenUsage | None = None) -> Document:
        thinking = {"type": "thinking", "thinking": "", "signature": "EqQBCgIYAhIM"}
        return {
            "id": "msg_013Zva2CMHLNnXjNJJKqJ2EF",
            "type": "message",
            "role": "assistant",
            "model": MODEL,
            "content": [thinking, {"type": "text", "text": text, "citations": None}] if text else [thinking],
            "stop_reason": finish or self.finished,
            "stop_sequence": None,
            "stop_details": None,
            "usage": self._usage(usage or self.usage),
        }

    def events(self, reply: Document) -> list[bytes]:
        usage = reply.get("usage")
        begun = None if usage is None else {**usage, "output_tokens": 1}
        start = {**reply, "content": [], "stop_reason": None, "stop_details": None, "usage": begun}
        end = {name: reply[name] for name in ("stop_reason", "stop_sequence", "stop_details") if name in reply}
        final: Document = {"type": "message_delta", "delta": end}
        if usage is not None:
            final["usage"] = {"output_tokens": usage["output_tokens"]}
        documents: list[Document] = [{"type": "message_start", "message": start}, {"type": "ping"}]
        for index, block in enumerate(reply["content"]):
            documents += self._block(index, block)
        documents += [final, {"type": "message_stop"}]
        return [sse(document, document["type"]) for document in documents]

    def error_event(self, status: int, message: str) -> bytes:
        return sse(self.error(status, message), "error")

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
        return body.get("system", ""), text_of(message["content"]), body["max_tokens"]

    def streams(self, path: str, body: Document) -> bool:
        return body.get("stream") is True

    def _usage(self, usage: TokenUsage) -> Document:
        """Return the usage as the API states it: input read from or written to the cache is counted separately."""
        written = usage.cache_write_5m + usage.cache_write_1h
        return {
            "input_tokens": usage.input_tokens - usage.cached_read - written,
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": usage.cached_read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": usage.cache_write_5m,
                "ephemeral_1h_input_tokens": usage.cache_write_1h,
            },
            "output_tokens": usage.output_tokens,
            "output_tokens_details": {"thinking_tokens": usage.reasoning},
            "service_tier": "standard",
        }

    def _block(self, index: int, block: Document) -> Iterator[Document]:
        kind = block["type"]
        yield {
            "type": "content_block_start",
            "index": index,
            "content_block": {**block, kind: ""} if kind in block else block,
        }
        for piece in pieces(block.get(kind) or ""):
            yield {"type": "content_block_delta", "index": index, "delta": {"type": f"{kind}_delta", kind: piece}}
        yield {"type": "content_block_stop", "index": index}


class Gemini(Provider):
    id = "gemini"
    variable = "GEMINI_API_KEY"
    key_header = "x-goog-api-key"
    finished = "STOP"
    truncated = "MAX_TOKENS"
    explains_refusals = False
    usage = TokenUsage(12, 34, reasoning=4)

    def path(self, model: str) -> str:
        return f"/v1/models/{model}:streamGenerateContent?alt=sse"

    def reply(self, text: str, *, finish: str | None = None, usage: TokenUsage | None = None) -> Document:
        parts: list[Document] = [{"text": "hm", "thought": True}]
        if text:
            parts.append({"text": text})
        return {
            "candidates": [
                {"content": {"parts": parts, "role": "model"}, "finishReason": finish or self.finished, "index": 0}
            ],
            "usageMetadata": self._usage(usage or self.usage),
            "modelVersion": MODEL,
            "responseId": "kfR8Z5bvGK6ngLUPhNWyqQg",
        }

    def events(self, reply: Document) -> list[bytes]:
        if "candidates" not in reply:  # the prompt is refused
            return [sse(reply)]
        (candidate,) = reply["candidates"]
        *before, last = self._parts(candidate["content"]["parts"]) or [{"text": ""}]
        documents = [self._with_part(reply, part, None) for part in before]
        for document in documents:
            # Until the end, only the counts that are known so far.
            document.pop("usageMetadata", None)
        return [sse(document) for document in [*documents, self._with_part(reply, last, candidate["finishReason"])]]

    def error_event(self, status: int, message: str) -> bytes:
        return sse(self.error(status, message))

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

    def streams(self, path: str, body: Document) -> bool:
        return ":streamGenerateContent" in path

    def _usage(self, usage: TokenUsage) -> Document:
        """Return the usage as the API states it: thoughts are counted separately, and counts of 0 are omitted."""
        visible = usage.output_tokens - usage.reasoning
        counts = {
            "promptTokenCount": usage.input_tokens,
            "cachedContentTokenCount": usage.cached_read,
            "candidatesTokenCount": visible,
            "thoughtsTokenCount": usage.reasoning,
            "totalTokenCount": usage.input_tokens + usage.output_tokens,
        }
        details = [{"modality": "TEXT", "tokenCount": usage.input_tokens}]
        return {name: count for name, count in counts.items() if count} | {"promptTokensDetails": details}

    def _parts(self, parts: list[Document]) -> list[Document]:
        return [{**part, "text": piece} for part in parts for piece in pieces(part["text"])]

    def _with_part(self, reply: Document, part: Document, finish: str | None) -> Document:
        candidate: Document = {"content": {"parts": [part], "role": "model"}, "index": 0}
        if finish:
            candidate["finishReason"] = finish
        return {**reply, "candidates": [candidate]}


class OpenAI(Provider):
    id = "openai"
    variable = "OPENAI_API_KEY"
    key_header = "authorization"
    base_path = "/v1"
    finished = "stop"
    truncated = "length"
    limit_parameter = "max_completion_tokens"
    usage = TokenUsage(12, 34, reasoning=4)

    def path(self, model: str) -> str:
        return "/v1/chat/completions"

    def reply(self, text: str, *, finish: str | None = None, usage: TokenUsage | None = None) -> Document:
        return {
            "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
            "object": "chat.completion",
            "created": 1741569952,
            "model": MODEL,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text or None, "refusal": None, "annotations": []},
                    "logprobs": None,
                    "finish_reason": finish or self.finished,
                }
            ],
            "usage": self._usage(usage or self.usage),
            "service_tier": "default",
        }

    def events(self, reply: Document) -> list[bytes]:
        (choice,) = reply["choices"]
        message = choice["message"]
        deltas: list[Document] = [{"role": "assistant", "content": "", "refusal": None}]
        deltas += [{"content": piece} for piece in pieces(message.get("content") or "")]
        deltas += [{"refusal": piece} for piece in pieces(message.get("refusal") or "")]
        chunks = [self._chunk(reply, [{"index": 0, "delta": delta, "finish_reason": None}]) for delta in deltas]
        chunks.append(self._chunk(reply, [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]))
        if "usage" in reply:
            chunks.append({**self._chunk(reply, []), "usage": reply["usage"]})
        return [*map(sse, chunks), DONE]

    def error_event(self, status: int, message: str) -> bytes:
        return sse({"error": {"message": message, "type": "server_error", "code": status}})

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

    def streams(self, path: str, body: Document) -> bool:
        if body.get("stream") is not True:
            return False
        assert body["stream_options"] == {"include_usage": True}, "without it, a stream states no usage"
        return True

    def _usage(self, usage: TokenUsage) -> Document:
        return {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
            "prompt_tokens_details": {"cached_tokens": usage.cached_read, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
        }

    def _chunk(self, reply: Document, choices: list[Document]) -> Document:
        kept: Document = {name: reply[name] for name in ("id", "created", "model", "service_tier") if name in reply}
        return {**kept, "object": "chat.completion.chunk", "choices": choices, "usage": None}


class Local(OpenAI):
    id = "local"
    limit_parameter = "max_tokens"


PAID: tuple[Provider, ...] = (Claude(), Gemini(), OpenAI())
