"""The model call of every contender. It uses the product's client, so that its cost is the same for all."""

import os

from llm.clients.compatible import CompatibleClient
from llm.types import LLMRequest


def ask(step: str, previous: str) -> str:
    """Ask the server at LOCAL_LLM_URL for the step's text, given the previous step's text."""
    request = LLMRequest(
        model="instant", prompt=f"Write the {step} from:\n\n{previous}", max_output_tokens=1000, timeout_s=30.0
    )
    return CompatibleClient("local", os.environ["LOCAL_LLM_URL"], "not-needed").complete(request).text
