"""The embedded llama.cpp server, or the server in LOCAL_LLM_URL: OpenAI's wire format, no key, no cost."""

from typing import ClassVar

from llm.clients.openai import OpenAIClient


class LocalClient(OpenAIClient):
    provider_id: ClassVar = "local"
    # llama.cpp accepts both names; older compatible servers accept only this one.
    limit_parameter: ClassVar = "max_tokens"

    def __init__(self, base_url: str) -> None:
        # The SDK requires a key.
        super().__init__(base_url, key="not-needed")
