"""Gemini, by its generateContent API: https://ai.google.dev/api/generate-content"""

from llm.clients.base_urls import VENDORS
from llm.clients.failures import Call, malformed, translated
from llm.clients.http import http_client, keep_texts_out_of_logs
from llm.clients.replies import Count, Wire, read, reply_of
from llm.types import LLMReply, LLMRequest, TokenUsage

BASE_URL = VENDORS["gemini"]
# The output was withheld because of a policy.
REFUSALS = frozenset(
    {
        *("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"),
        *("ESCALATION", "PUP_LIMITED_DISABLED", "MODEL_ARMOR"),
    }
)


class GeminiClient:
    def __init__(self, base_url: str | None, key: str) -> None:
        self._base_url = base_url or BASE_URL
        self._key = key

    def complete(self, request: LLMRequest) -> LLMReply:
        from google import genai  # takes seconds, so imported only when used
        from google.genai import types

        keep_texts_out_of_logs("google_genai")
        call = Call("gemini", request, self._key)
        with translated(call), http_client(request.timeout_s) as http:
            client = genai.Client(
                api_key=self._key,
                # Otherwise the SDK's own environment variables could select another service.
                vertexai=False,
                # Without `retry_options` it does not retry.
                http_options=types.HttpOptions(
                    base_url=self._base_url, httpx_client=http, timeout=round(request.timeout_s * 1000)
                ),
            )
            response = client.models.generate_content(
                model=request.model,
                contents=request.prompt,
                config=types.GenerateContentConfig(
                    system_instruction=request.system or None,
                    max_output_tokens=request.max_output_tokens,
                    automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
                    # One call, one request: we could neither limit nor count automatic continuations.
                    automatic_continuation=False,
                ),
            )
            return _reply(call, read(_Response, response))


class _Part(Wire):
    text: str | None = None
    thought: bool | None = None


class _Content(Wire):
    parts: list[_Part] | None = None


class _Candidate(Wire):
    content: _Content | None = None
    finish_reason: str | None = None


class _Feedback(Wire):
    block_reason: str | None = None


class _Usage(Wire):
    prompt_token_count: Count
    candidates_token_count: Count | None = None
    thoughts_token_count: Count | None = None
    tool_use_prompt_token_count: Count | None = None


class _Response(Wire):
    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    model_version: str | None = None
    usage_metadata: _Usage | None = None


def _reply(call: Call, response: _Response) -> LLMReply:
    # All fields of the API are optional, so the SDK turns any JSON object into an empty reply.
    if response.candidates is None and response.prompt_feedback is None:
        raise malformed(call)
    candidate = response.candidates[0] if response.candidates else _Candidate()
    parts = (candidate.content.parts if candidate.content else None) or []
    finish_reason, refusal = _finish(response, candidate)
    return reply_of(
        call,
        text="".join(part.text or "" for part in parts if not part.thought),
        usage=_token_usage(response.usage_metadata) if response.usage_metadata else None,
        model=response.model_version,
        finish_reason=finish_reason,
        refusal=refusal,
    )


def _finish(response: _Response, candidate: _Candidate) -> tuple[str, str | None]:
    """Return (finish reason, refusal as for `reply_of`). The API does not explain refusals.

    A refused prompt has a block reason and no candidates.
    """
    feedback = response.prompt_feedback
    if not response.candidates and feedback and feedback.block_reason:
        return feedback.block_reason, ""
    reason = candidate.finish_reason or ""
    return reason, "" if reason in REFUSALS else None


def _token_usage(usage: _Usage) -> TokenUsage:
    """Count thoughts as output, because they are billed so. A blocked prompt has no output."""
    return TokenUsage(
        usage.prompt_token_count + (usage.tool_use_prompt_token_count or 0),
        (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0),
    )
