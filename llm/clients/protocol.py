"""The interface of all provider clients."""

from typing import Protocol

from llm.types import LLMReply, LLMRequest


class LLMClient(Protocol):
    def complete(self, request: LLMRequest) -> LLMReply:
        """Make exactly one HTTP request and return the reply.

        Raises `LLMTransientError` (rate limits, 5xx, timeouts, truncated or malformed bodies) or `LLMPermanentError`.
        Thread-safe.
        """
        ...
