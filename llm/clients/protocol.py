"""What every client of a provider is."""

from typing import Protocol

from llm.types import LLMReply, LLMRequest


class LLMClient(Protocol):
    def complete(self, request: LLMRequest) -> LLMReply:
        """Make exactly one HTTP request and return the reply.

        Raises `LLMTransientError` (rate limits, 5xx, time-outs, cut or malformed bodies) or `LLMPermanentError`. Safe
        to call from several threads.
        """
        ...
