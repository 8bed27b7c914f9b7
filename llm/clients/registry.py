"""Choose a provider's client by its wire. It is imported when created; its SDK at its first call, or by `load_sdk`."""

from importlib import import_module
from typing import Protocol

from django.conf import settings
from django.utils.module_loading import import_string

from llm.clients.abort import Abort
from llm.clients.base_urls import LOCAL, VENDORS, host_of, is_http, is_vendors_own, require_allowed
from llm.errors import InvalidBaseURL, MissingKey, MissingKeyVariable, UnknownWire
from llm.keys import key_of, require_key_variable
from llm.types import LLMReply, LLMRequest, ProviderAccess

# Client classes; their arguments are (provider id, base URL, key). By name, because most processes call no LLM.
CLIENTS = {
    "anthropic": "llm.clients.claude.ClaudeClient",
    "gemini": "llm.clients.gemini.GeminiClient",
    "openai": "llm.clients.openai.OpenAIClient",
}
COMPATIBLE = "llm.clients.compatible.CompatibleClient"
# What a client imports at its first call.
SDKS = {"anthropic": "anthropic", "gemini": "google.genai", "openai": "openai.resources.chat"}
# The SDKs require a key.
NO_KEY = "not-needed"
# OpenAI's own API in Azure, whose resources have a host each.
AZURE = (".openai.azure.com", ".services.ai.azure.com")


class LLMClient(Protocol):
    def complete(self, request: LLMRequest, abort: Abort | None = None) -> LLMReply:
        """Make at most one HTTP request and return the reply; it is requested as a stream.

        Raises `LLMTransientError` (rate limits, 5xx, timeouts, truncated or malformed bodies, `CallAborted`) or
        `LLMPermanentError`. Thread-safe.
        """
        ...


def client_for(access: ProviderAccess) -> LLMClient:
    """Return a client for the provider. Without a base URL, its vendor's public address is used, or LOCAL_LLM_URL.

    Raises what `require_callable` raises, and `MissingKey` or `InvalidKey`, which name the environment variable.
    """
    require_callable(access)
    url = address_of(access)
    if not url:
        raise MissingKey(LOCAL, "LOCAL_LLM_URL")
    key = key_of(access.provider_id, access.key_variable) if access.key_variable else NO_KEY
    client: LLMClient = import_string(_client_class(access, url))(access.provider_id, url, key)
    return client


def load_sdk(wire: str) -> None:
    """Import the SDK of the wire's client, which takes a second of CPU and blocks other threads meanwhile."""
    if wire in SDKS:
        import_module(SDKS[wire])


def require_callable(access: ProviderAccess) -> None:
    """Raise unless the provider can be called once its key variable, or LOCAL_LLM_URL, is set.

    Raises `UnknownWire`, `InvalidKeyVariable` or `MissingKeyVariable`, `InvalidBaseURL`, `InsecureBaseURL`,
    `HostNotAllowed` or `ForeignKeyVariable`.
    """
    if access.wire not in CLIENTS:
        raise UnknownWire(access.provider_id, access.wire, list(CLIENTS))
    if access.key_variable:
        require_key_variable(access.provider_id, access.key_variable)
    url = address_of(access)
    if _uses_local_setting(access):
        if url and not is_http(url):
            raise InvalidBaseURL(access.provider_id)
        return
    require_allowed(access, url)
    if not access.key_variable and is_vendors_own(access.wire, url):
        raise MissingKeyVariable(access.provider_id)


def address_of(access: ProviderAccess) -> str:
    """Return where the provider is called: its base URL, else its vendor's, or LOCAL_LLM_URL, which may be ""."""
    if _uses_local_setting(access):
        return str(settings.LOCAL_LLM_URL)
    return _stated(access.api_base_url) or VENDORS[access.wire]


def _uses_local_setting(access: ProviderAccess) -> bool:
    """Return whether LOCAL_LLM_URL applies. The operator vouches for that server, so http is allowed, without a key."""
    return access.provider_id == LOCAL and not access.key_variable and not _stated(access.api_base_url)


def _stated(api_base_url: str | None) -> str | None:
    return (api_base_url or "").strip() or None


def _client_class(access: ProviderAccess, url: str) -> str:
    """Return the client class's dotted path. OpenAI's API and compatible servers name the output limit differently."""
    is_openais = access.provider_id == "openai" or is_vendors_own("openai", url) or host_of(url).endswith(AZURE)
    return COMPATIBLE if access.wire == "openai" and not is_openais else CLIENTS[access.wire]
