"""API keys. They come from the environment only and never appear in a database, a log or an error."""

import os
import re

from llm.errors import InvalidKey, InvalidKeyVariable, MissingKey

# The vendors' own variables, by the wire that they defined.
KEY_VARIABLES = {"anthropic": "ANTHROPIC_API_KEY", "gemini": "GEMINI_API_KEY", "openai": "OPENAI_API_KEY"}
# Staff choose the variable in the admin, so it must be named as a key: no other secret of the environment, such as
# DATABASE_URL or SECRET_KEY, can be sent to a server.
_NAME = re.compile(r"[A-Z][A-Z0-9_]*_API_KEY", re.ASCII)


def require_key_variable(provider_id: str, variable: str) -> None:
    """Raise `InvalidKeyVariable` unless a key variable may have this name, such as OPENAI_API_KEY."""
    if not _NAME.fullmatch(variable):
        raise InvalidKeyVariable(provider_id)


def is_vendors(variable: str, wire: str) -> bool:
    """Return whether a variable is named for the wire's vendor, such as OPENAI_API_KEY or OPENAI_BLOG_API_KEY."""
    vendor = KEY_VARIABLES[wire].removesuffix("API_KEY")
    return variable.startswith(vendor) and bool(_NAME.fullmatch(variable))


def key_of(provider_id: str, variable: str) -> str:
    """Return a provider's key. Raises `MissingKey`, `InvalidKey` or `InvalidKeyVariable`."""
    require_key_variable(provider_id, variable)
    key = os.environ.get(variable, "").strip()
    if not key:
        raise MissingKey(provider_id, variable)
    if not all("!" <= character <= "~" for character in key):
        raise InvalidKey(provider_id, variable)
    return key
