"""API keys. They come from the environment only and never appear in a database, a log or an error."""

import os

from llm.errors import InvalidKey, MissingKey

KEY_VARIABLES = {"claude": "ANTHROPIC_API_KEY", "gemini": "GEMINI_API_KEY", "openai": "OPENAI_API_KEY"}


def key_of(provider_id: str) -> str:
    """Return the key of a paid provider. Raises `MissingKey` or `InvalidKey`, both naming the variable."""
    variable = KEY_VARIABLES[provider_id]
    key = os.environ.get(variable, "").strip()
    if not key:
        raise MissingKey(provider_id, variable)
    if not all("!" <= character <= "~" for character in key):
        raise InvalidKey(provider_id, variable)
    return key
