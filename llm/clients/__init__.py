"""One client for each wire protocol. The SDKs are imported when a client is first used."""

from collections.abc import Callable
from urllib.parse import urlsplit

from django.conf import settings

from llm.clients.claude import ClaudeClient
from llm.clients.gemini import GeminiClient
from llm.clients.local import LocalClient
from llm.clients.openai import OpenAIClient
from llm.clients.protocol import LLMClient as LLMClient
from llm.errors import InvalidBaseURL, MissingKey, UnknownProvider
from llm.keys import key_of

PAID: dict[str, Callable[[str | None, str], LLMClient]] = {
    "claude": ClaudeClient,
    "gemini": GeminiClient,
    "openai": OpenAIClient,
}
LOCAL = "local"
PROVIDER_IDS = (*PAID, LOCAL)


def client_for(provider_id: str, api_base_url: str | None = None) -> LLMClient:
    """Return a client of the provider; `api_base_url` None means its public address, or LOCAL_LLM_URL.

    Raises `UnknownProvider`, `InvalidBaseURL`, and `MissingKey` naming the environment variable.
    """
    if provider_id not in PROVIDER_IDS:
        raise UnknownProvider(provider_id, list(PROVIDER_IDS))
    url = (api_base_url or "").strip() or _default_url(provider_id)
    if url and not _is_http(url):
        raise InvalidBaseURL(provider_id)
    if provider_id == LOCAL:
        if not url:
            raise MissingKey(LOCAL, "LOCAL_LLM_URL")
        return LocalClient(url)
    return PAID[provider_id](url, key_of(provider_id))


def _default_url(provider_id: str) -> str | None:
    return (str(settings.LOCAL_LLM_URL) or None) if provider_id == LOCAL else None


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
