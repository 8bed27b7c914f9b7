"""Claude, by the Messages API: https://platform.claude.com/docs/en/api/messages"""

from llm.clients.base_urls import VENDORS
from llm.clients.failures import Call, translated
from llm.clients.http import http_client, keep_texts_out_of_logs
from llm.clients.replies import Count, Wire, read, reply_of
from llm.types import LLMReply, LLMRequest, TokenUsage

BASE_URL = VENDORS["claude"]


class ClaudeClient:
    def __init__(self, base_url: str | None, key: str) -> None:
        self._base_url = base_url or BASE_URL
        self._key = key

    def complete(self, request: LLMRequest) -> LLMReply:
        import anthropic  # takes a second, so imported only when used

        keep_texts_out_of_logs("anthropic")
        call = Call("claude", request, self._key)
        with translated(call), http_client(request.timeout_s) as http:
            client = anthropic.Anthropic(
                api_key=self._key,
                base_url=self._base_url,
                timeout=request.timeout_s,
                max_retries=0,
                http_client=http,
                open_telemetry=False,
            )
            message = client.messages.create(
                model=request.model,
                max_tokens=request.max_output_tokens,
                system=request.system or anthropic.omit,
                messages=[{"role": "user", "content": request.prompt}],
            )
            return _reply(call, read(_Message, message))


class _Block(Wire):
    type: str
    text: str = ""


class _Usage(Wire):
    input_tokens: Count
    output_tokens: Count
    cache_creation_input_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None


class _StopDetails(Wire):
    explanation: str | None = None


class _Message(Wire):
    model: str
    content: list[_Block]
    stop_reason: str | None
    stop_details: _StopDetails | None = None
    usage: _Usage | None = None


def _reply(call: Call, message: _Message) -> LLMReply:
    refusal = None
    if message.stop_reason == "refusal":
        refusal = (message.stop_details and message.stop_details.explanation) or ""
    return reply_of(
        call,
        text="".join(block.text for block in message.content if block.type == "text"),
        usage=_token_usage(message.usage) if message.usage else None,
        model=message.model,
        finish_reason=message.stop_reason or "",
        refusal=refusal,
    )


def _token_usage(usage: _Usage) -> TokenUsage:
    """Add cached input, which the API counts separately."""
    cached = (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0)
    return TokenUsage(usage.input_tokens + cached, usage.output_tokens)
