"""Claude, through the Messages API: https://platform.claude.com/docs/en/api/messages-streaming"""

from itertools import pairwise
from typing import TYPE_CHECKING

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
    from anthropic import Anthropic
    from anthropic.types import TextBlockParam


class ClaudeClient:
    def __init__(self, provider_id: str, base_url: str, key: str) -> None:
        self._provider_id = provider_id
        self._base_url = base_url
        self._key = key

    def complete(self, request: LLMRequest, abort: Abort | None = None) -> LLMReply:
        import anthropic  # takes a second, so imported only when used

        keep_texts_out_of_logs("anthropic")
        sdk = _sdk(self._base_url, self._key)
        return exchange(
            Call(self._provider_id, request, self._key),
            ClaudeAssembly,
            lambda: sdk.messages.create(
                model=request.model,
                max_tokens=request.max_output_tokens,
                system=request.system or anthropic.omit,
                messages=[{"role": "user", "content": _content(request)}],
                stream=True,
            ),
            abort,
        )


def _content(request: LLMRequest) -> "str | list[TextBlockParam]":
    """Return the prompt; if it has cache points, in blocks that are split there, with a mark on the last but one.

    The mark makes the provider cache everything up to the end of that block, unless it is cached already. The provider
    also reuses what earlier calls cached up to the end of an earlier block.
    """
    if not request.cache_points:
        return request.prompt
    ends = [0, *request.cache_points, len(request.prompt)]
    blocks: list[TextBlockParam] = [
        {"type": "text", "text": request.prompt[start:end]} for start, end in pairwise(ends)
    ]
    blocks[-2]["cache_control"] = {"type": "ephemeral"}
    return blocks


@kept
def _sdk(base_url: str, key: str) -> "Anthropic":
    import anthropic

    return anthropic.Anthropic(
        api_key=key, base_url=base_url, max_retries=0, http_client=http_client(base_url), open_telemetry=False
    )


class ClaudeAssembly(Assembly):
    """Reads the events of a stream, or a whole message. Blocks other than text, such as thinking, are left out."""

    def read(self, document: JSONObject) -> None:
        match document.get("type"):
            case "message_start":
                self._read_message(an_object(document.get("message")))
            case "content_block_start":
                self._read_block(an_object(document.get("content_block")))
            case "content_block_delta":
                self.token_came()
                self._read_block(an_object(document.get("delta")))
            case "message_delta":
                self._read_end(an_object(document.get("delta")))
                self.count(document.get("usage"))
            case "message_stop":
                self.end()
            case "message" | None:
                self._read_message(document)

    def usage(self) -> TokenUsage | None:
        """Return the usage; None if input or output is not counted. The API counts cached input separately.

        A cache write without a lifetime counts as one for 5 minutes.
        """
        new, output = count_of(self.counts, "input_tokens"), count_of(self.counts, "output_tokens")
        if new is None or output is None:
            return None
        read = count_of(self.counts, "cache_read_input_tokens") or 0
        lifetimes = an_object(self.counts.get("cache_creation"))
        written = count_of(self.counts, "cache_creation_input_tokens")
        if written is None:
            written = sum(unbilled_count(lifetimes, f"ephemeral_{time}_input_tokens") for time in ("5m", "1h"))
        for_an_hour = part_of(written, lifetimes, "ephemeral_1h_input_tokens")
        details = an_object(self.counts.get("output_tokens_details"))
        return checked(
            TokenUsage(
                new + read + written,
                output,
                cached_read=read,
                cache_write_5m=written - for_an_hour,
                cache_write_1h=for_an_hour,
                reasoning=part_of(output, details, "thinking_tokens"),
            )
        )

    def _read_message(self, message: JSONObject) -> None:
        self.began = self.began or isinstance(message.get("content"), list)
        self.id = self.id or a_string(message.get("id")) or ""
        self.model = self.model or a_string(message.get("model"))
        for block in objects(message.get("content")):
            self._read_block(block)
        self.count(message.get("usage"))
        self._read_end(message)

    def _read_block(self, block: JSONObject) -> None:
        if block.get("type") in ("text", "text_delta"):
            self.say(block.get("text"))

    def _read_end(self, end: JSONObject) -> None:
        self.finish_reason = a_string(end.get("stop_reason")) or self.finish_reason
        if self.finish_reason == "refusal":
            details = an_object(end.get("stop_details"))
            self.refusal = a_string(details.get("explanation")) or self.refusal or ""
