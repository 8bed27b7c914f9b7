"""OpenAI and compatible servers, by Chat Completions: https://platform.openai.com/docs/api-reference/chat"""

from typing import TYPE_CHECKING, ClassVar

from llm.clients.base_urls import VENDORS
from llm.clients.failures import Call, translated
from llm.clients.http import http_client, keep_texts_out_of_logs
from llm.clients.replies import Count, Wire, read, reply_of
from llm.types import LLMReply, LLMRequest, TokenUsage

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

BASE_URL = VENDORS["openai"]


class OpenAIClient:
    provider_id: ClassVar = "openai"
    # OpenAI's reasoning models reject the older `max_tokens`.
    limit_parameter: ClassVar = "max_completion_tokens"

    def __init__(self, base_url: str | None, key: str) -> None:
        self._base_url = base_url or BASE_URL
        self._key = key

    def complete(self, request: LLMRequest) -> LLMReply:
        import openai  # takes a second, so imported only when used

        keep_texts_out_of_logs("openai")
        call = Call(self.provider_id, request, self._key)
        with translated(call), http_client(request.timeout_s) as http:
            client = openai.OpenAI(
                api_key=self._key,
                base_url=self._base_url,
                timeout=request.timeout_s,
                max_retries=0,
                http_client=http,
            )
            completion = client.chat.completions.create(
                model=request.model,
                messages=_messages(request),
                extra_body={self.limit_parameter: request.max_output_tokens},
            )
            return _reply(call, read(_Completion, completion))


class _Message(Wire):
    content: str | None = None
    refusal: str | None = None


class _Choice(Wire):
    finish_reason: str | None
    message: _Message


class _Usage(Wire):
    # Includes reasoning.
    completion_tokens: Count
    prompt_tokens: Count


class _Completion(Wire):
    model: str | None = None
    choices: list[_Choice]
    usage: _Usage | None = None


def _messages(request: LLMRequest) -> "list[ChatCompletionMessageParam]":
    messages: list[ChatCompletionMessageParam] = []
    if request.system:
        messages.append({"role": "system", "content": request.system})
    messages.append({"role": "user", "content": request.prompt})
    return messages


def _reply(call: Call, completion: _Completion) -> LLMReply:
    choice = completion.choices[0] if completion.choices else _Choice(finish_reason=None, message=_Message())
    filtered = "" if choice.finish_reason == "content_filter" else None
    usage = completion.usage
    return reply_of(
        call,
        text=choice.message.content or "",
        usage=TokenUsage(usage.prompt_tokens, usage.completion_tokens) if usage else None,
        model=completion.model,
        finish_reason=choice.finish_reason or "",
        refusal=choice.message.refusal or filtered,
    )
