"""OpenAI and compatible servers, through Chat Completions: https://platform.openai.com/docs/api-reference/chat"""

from typing import TYPE_CHECKING, ClassVar

from llm.clients.abort import Abort
from llm.clients.exchange import exchange
from llm.clients.failures import Call
from llm.clients.http import http_client, keep_texts_out_of_logs, kept
from llm.clients.replies import (
    Assembly,
    JSONObject,
    a_string,
    an_object,
    checked,
    count_of,
    objects,
    part_of,
    unbilled_count,
)
from llm.types import LLMReply, LLMRequest, TokenUsage

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.chat import ChatCompletionMessageParam


class OpenAIClient:
    # OpenAI's reasoning models reject the older `max_tokens`.
    limit_parameter: ClassVar = "max_completion_tokens"

    def __init__(self, provider_id: str, base_url: str, key: str) -> None:
        self._provider_id = provider_id
        self._base_url = base_url
        self._key = key

    def complete(self, request: LLMRequest, abort: Abort | None = None) -> LLMReply:
        keep_texts_out_of_logs("openai")
        sdk = _sdk(self._base_url, self._key)
        return exchange(
            Call(self._provider_id, request, self._key),
            OpenAIAssembly,
            lambda: sdk.chat.completions.create(
                model=request.model,
                messages=_messages(request),
                stream=True,
                stream_options={"include_usage": True},
                extra_body={self.limit_parameter: request.max_output_tokens},
            ),
            abort,
        )


@kept
def _sdk(base_url: str, key: str) -> "OpenAI":
    import openai  # takes a second, so imported only when used

    return openai.OpenAI(api_key=key, base_url=base_url, max_retries=0, http_client=http_client(base_url))


def _messages(request: LLMRequest) -> "list[ChatCompletionMessageParam]":
    messages: list[ChatCompletionMessageParam] = []
    if request.system:
        messages.append({"role": "system", "content": request.system})
    messages.append({"role": "user", "content": request.prompt})
    return messages


class OpenAIAssembly(Assembly):
    """Reads the chunks of a stream, whose choice has a `delta`, or a whole completion, whose choice has a `message`."""

    def read(self, document: JSONObject) -> None:
        self.id = self.id or a_string(document.get("id")) or ""
        self.model = self.model or a_string(document.get("model"))
        self.count(document.get("usage"))
        for choice in objects(document.get("choices")):
            if choice.get("index") in (0, None):
                self._read_choice(choice)

    def usage(self) -> TokenUsage | None:
        prompt, completion = count_of(self.counts, "prompt_tokens"), count_of(self.counts, "completion_tokens")
        if prompt is None or completion is None:
            return None
        reasoning = an_object(self.counts.get("completion_tokens_details"))
        apart = unbilled_count(reasoning, "reasoning_tokens")
        if unbilled_count(self.counts, "total_tokens") == prompt + completion + apart:
            completion += apart  # as some compatible servers count
        cached = an_object(self.counts.get("prompt_tokens_details"))
        read = part_of(prompt, cached, "cached_tokens")
        return checked(
            TokenUsage(
                prompt,
                completion,
                cached_read=read,
                cache_write_5m=part_of(prompt - read, cached, "cache_write_tokens"),
                reasoning=part_of(completion, reasoning, "reasoning_tokens"),
            )
        )

    def _read_choice(self, choice: JSONObject) -> None:
        self.began = True
        if choice.get("error"):  # OpenRouter's place for an error of the provider behind it
            self.error = self.error or choice
        message = an_object(choice.get("delta")) or an_object(choice.get("message"))
        if message.get("reasoning_content") or message.get("reasoning"):
            self.token_came()
        self._read_content(message.get("content"))
        if refusal := a_string(message.get("refusal")):
            self.refusal = (self.refusal or "") + refusal
        reason = a_string(choice.get("finish_reason"))
        if reason == "content_filter":
            self.refusal = self.refusal or ""
        self.finish_reason = reason or self.finish_reason

    def _read_content(self, content: object) -> None:
        """Read a string, or a list of typed parts, with which some servers separate reasoning from text."""
        self.say(content)
        for part in objects(content):
            if part.get("type") == "text":
                self.say(part.get("text"))
