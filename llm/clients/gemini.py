"""Gemini, through its streamGenerateContent API: https://ai.google.dev/api/generate-content"""

from typing import TYPE_CHECKING, ClassVar

from llm.clients.abort import Abort
from llm.clients.exchange import exchange
from llm.clients.failures import Call
from llm.clients.http import http_client, keep_texts_out_of_logs, kept
from llm.clients.replies import Assembly, JSONObject, a_string, an_object, checked, count_of, objects, part_of
from llm.types import LLMReply, LLMRequest, TokenUsage

if TYPE_CHECKING:
    from google.genai import Client

# The output was withheld because of a policy.
REFUSALS = frozenset(
    {
        *("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"),
        *("ESCALATION", "PUP_LIMITED_DISABLED", "MODEL_ARMOR"),
    }
)


class GeminiClient:
    def __init__(self, provider_id: str, base_url: str, key: str) -> None:
        self._provider_id = provider_id
        self._base_url = base_url
        self._key = key

    def complete(self, request: LLMRequest, abort: Abort | None = None) -> LLMReply:
        from google.genai import types  # takes seconds, so imported only when used

        keep_texts_out_of_logs("google_genai")
        sdk = _sdk(self._base_url, self._key)
        config = types.GenerateContentConfig(
            system_instruction=request.system or None,
            max_output_tokens=request.max_output_tokens,
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
            # One call, one request: we could neither limit nor count automatic continuations.
            automatic_continuation=False,
        )
        return exchange(
            Call(self._provider_id, request, self._key),
            GeminiAssembly,
            lambda: sdk.models.generate_content_stream(model=request.model, contents=request.prompt, config=config),
            abort,
        )


@kept
def _sdk(base_url: str, key: str) -> "Client":
    from google import genai
    from google.genai import types

    return genai.Client(
        api_key=key,
        # Otherwise the SDK's own environment variables could select another service.
        vertexai=False,
        # Without `retry_options` it does not retry.
        http_options=types.HttpOptions(base_url=base_url, httpx_client=http_client(base_url)),
    )


class GeminiAssembly(Assembly):
    """Reads the parts of a stream, or a whole response, which has the same format. Counts are cumulative."""

    marks_end: ClassVar = False

    def read(self, document: JSONObject) -> None:
        self.id = self.id or a_string(document.get("responseId")) or ""
        self.model = self.model or a_string(document.get("modelVersion"))
        self.count(document.get("usageMetadata"))
        self._read_feedback(an_object(document.get("promptFeedback")))
        for candidate in objects(document.get("candidates")):
            if candidate.get("index") in (0, None):
                self._read_candidate(candidate)

    def usage(self) -> TokenUsage | None:
        """Return the usage; None if the count of the input or of the visible output is missing.

        Thoughts are billed as output, so they count as such. Without text, as for a blocked prompt, no output count is
        needed.
        """
        prompt = count_of(self.counts, "promptTokenCount")
        visible, thoughts = count_of(self.counts, "candidatesTokenCount"), count_of(self.counts, "thoughtsTokenCount")
        if prompt is None or (self.has_text and visible is None):
            return None
        output = (visible or 0) + (thoughts or 0)
        return checked(
            TokenUsage(
                prompt + (count_of(self.counts, "toolUsePromptTokenCount") or 0),
                output,
                cached_read=part_of(prompt, self.counts, "cachedContentTokenCount"),
                reasoning=thoughts or 0,
            )
        )

    def _read_feedback(self, feedback: JSONObject) -> None:
        """Read the reason if the prompt was refused; there is no candidate then. The API does not explain refusals."""
        if feedback:
            self.began = True
        if reason := a_string(feedback.get("blockReason")):
            self.finish_reason, self.refusal = reason, ""

    def _read_candidate(self, candidate: JSONObject) -> None:
        self.began = True
        for part in objects(an_object(candidate.get("content")).get("parts")):
            if not part.get("thought"):
                self.say(part.get("text"))
        if reason := a_string(candidate.get("finishReason")):
            self.finish_reason = reason
            if reason in REFUSALS:
                self.refusal = ""
