"""One client per wire protocol. A client is imported when it is created, its SDK when it is first called."""

from django.conf import settings
from django.utils.module_loading import import_string

from llm.clients.base_urls import LOCAL, is_http, require_allowed
from llm.clients.protocol import LLMClient as LLMClient
from llm.errors import InvalidBaseURL, MissingKey, UnknownProvider
from llm.keys import key_of

# Client classes; their arguments are (base URL or None, key). By name, because most processes call no LLM.
PAID = {
    "claude": "llm.clients.claude.ClaudeClient",
    "gemini": "llm.clients.gemini.GeminiClient",
    "openai": "llm.clients.openai.OpenAIClient",
}
PROVIDER_IDS = (*PAID, LOCAL)


def client_for(provider_id: str, api_base_url: str | None = None) -> LLMClient:
    """Return a client for the provider; `api_base_url` None means its public address, or LOCAL_LLM_URL.

    Raises what `require_callable` raises, and `MissingKey` or `InvalidKey`, which name the environment variable.
    """
    require_callable(provider_id, api_base_url)
    url = _stated(api_base_url) or _default_url(provider_id)
    if provider_id == LOCAL:
        if not url:
            raise MissingKey(LOCAL, "LOCAL_LLM_URL")
        from llm.clients.local import LocalClient

        return LocalClient(url)
    client: LLMClient = import_string(PAID[provider_id])(url, key_of(provider_id))
    return client


def require_callable(provider_id: str, api_base_url: str | None = None) -> None:
    """Raise if the provider cannot be called for a reason other than its key.

    Raises `UnknownProvider` if no client supports it, `InvalidBaseURL`, `InsecureBaseURL` or `HostNotAllowed`.
    """
    if provider_id not in PROVIDER_IDS:
        raise UnknownProvider(provider_id, list(PROVIDER_IDS))
    if url := _stated(api_base_url):
        require_allowed(provider_id, url)
    elif (url := _default_url(provider_id)) and not is_http(url):
        raise InvalidBaseURL(provider_id)


def _stated(api_base_url: str | None) -> str | None:
    return (api_base_url or "").strip() or None


def _default_url(provider_id: str) -> str | None:
    return (str(settings.LOCAL_LLM_URL) or None) if provider_id == LOCAL else None
