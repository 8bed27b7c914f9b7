"""Servers that speak OpenAI's wire, such as the embedded llama.cpp server, vLLM, LM Studio or OpenRouter."""

from typing import ClassVar

from llm.clients.openai import OpenAIClient


class CompatibleClient(OpenAIClient):
    # All of them accept this name; older ones, and those that refuse unknown names, accept only this one.
    limit_parameter: ClassVar = "max_tokens"
