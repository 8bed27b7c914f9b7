"""The embedded llama.cpp server, or whatever LOCAL_LLM_URL names: OpenAI's wire format, no key, no cost."""

from typing import ClassVar

from llm.clients.openai import OpenAIClient


class LocalClient(OpenAIClient):
    provider_id: ClassVar = "local"
    # llama.cpp knows both; older compatible servers only this.
    limit_parameter: ClassVar = "max_tokens"

    def __init__(self, base_url: str) -> None:
        # The SDK insists on a key.
        super().__init__(base_url, key="not-needed")
