"""The rivals' model call. It uses the product's client, so that a call costs them as much as it costs the product."""

import os

from llm.clients.compatible import CompatibleClient
from llm.types import LLMRequest


def ask(step: str, previous: str) -> str:
    """Return the step's text from the server at LOCAL_LLM_URL, given the previous step's text."""
    request = LLMRequest(
        model="instant", prompt=f"Write the {step} from:\n\n{previous}", max_output_tokens=1000, timeout_s=30.0
    )
    return CompatibleClient("local", os.environ["LOCAL_LLM_URL"], "not-needed").complete(request).text
