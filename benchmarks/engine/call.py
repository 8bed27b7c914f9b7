"""The model call of every contender: through the product's client, so that its cost is the same for all."""

import os

from llm.clients.local import LocalClient
from llm.types import LLMRequest


def ask(step: str, previous: str) -> str:
    """Ask LOCAL_LLM_URL for the step's text, given the text of the step before."""
    request = LLMRequest(
        model="instant", prompt=f"Write the {step} from:\n\n{previous}", max_output_tokens=1000, timeout_s=30.0
    )
    return LocalClient(os.environ["LOCAL_LLM_URL"]).complete(request).text
