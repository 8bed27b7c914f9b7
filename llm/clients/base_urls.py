"""Where an API key may be sent: the rules for a provider's `api_base_url`.

Staff choose the URL in the admin, but the keys belong to the operator. So the allowed hosts come from the environment
(`LLM_ALLOWED_HOSTS`). A URL is checked when it is saved and again before each call, because a row may be older than the
rule, or changed by SQL.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from django.conf import settings

from llm.errors import ForeignKeyVariable, HostNotAllowed, InsecureBaseURL, InvalidBaseURL
from llm.keys import is_vendors
from llm.types import ProviderAccess

LOCAL = "local"
# By wire.
VENDORS = {
    "anthropic": "https://api.anthropic.com",
    "gemini": "https://generativelanguage.googleapis.com",
    "openai": "https://api.openai.com/v1",
}
DEFAULT_PORTS = {"http": 80, "https": 443}
# Stricter than a URL parser, so that no two parsers can disagree about the host: no credentials, query or fragment.
_PLAIN = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?(?:/[\w.~%/-]*)?",
    re.ASCII | re.IGNORECASE,
)
_ENTRY = re.compile(r"(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Origin:
    scheme: str
    # In lower case; IPv6 in brackets.
    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return self.host if self.port == DEFAULT_PORTS[self.scheme] else f"{self.host}:{self.port}"


def require_allowed(access: ProviderAccess, url: str) -> None:
    """Raise unless the provider may be called at `url`, with its key if it has one.

    These are allowed: https to every host in `LLM_ALLOWED_HOSTS`, at its port (443 unless stated); http to a loopback
    address that is listed there with its port; https to the host of the wire's vendor, with no key or a key of that
    vendor; and, for the provider "local" without a key, the server in `LOCAL_LLM_URL`. Raises `InvalidBaseURL`,
    `InsecureBaseURL`, `HostNotAllowed` or `ForeignKeyVariable`.
    """
    provider_id = access.provider_id
    origin = _origin(url)
    if origin is None:
        raise InvalidBaseURL(provider_id)
    if provider_id == LOCAL and not access.key_variable and origin == _origin(settings.LOCAL_LLM_URL):
        return
    listed = (origin.host, origin.port) in set(_listed())
    if origin.scheme != "https" and not (origin.is_loopback and listed):
        raise InsecureBaseURL(provider_id)
    if listed:
        return
    if origin != _origin(VENDORS[access.wire]):
        raise HostNotAllowed(provider_id, str(origin))
    if access.key_variable and not is_vendors(access.key_variable, access.wire):
        raise ForeignKeyVariable(provider_id, str(origin))


def is_vendors_own(wire: str, url: str) -> bool:
    """Return whether a URL leads to the server of the wire's vendor."""
    return _origin(url) == _origin(VENDORS[wire])


def host_of(url: str) -> str:
    """Return the host of a plain URL in lower case; "" for any other URL."""
    origin = _origin(url)
    return origin.host if origin else ""


def entries_unreadable() -> list[str]:
    """Return the entries of `LLM_ALLOWED_HOSTS` that are not hosts, and therefore allow nothing."""
    return [entry for entry in settings.LLM_ALLOWED_HOSTS if not _ENTRY.fullmatch(entry.strip())]


def is_http(url: str) -> bool:
    """Return whether an operator's setting is an http or https URL with a host."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in DEFAULT_PORTS and bool(parts.hostname)


def without_credentials(url: str | None) -> str | None:
    """Return the URL for an audit entry; "****" if it may contain credentials, as an older row may; None if empty."""
    if not url:
        return None
    origin = _origin(url)
    return url if origin else "****"


def _origin(url: str) -> Origin | None:
    """Return the URL's origin, or None if it is not a plain URL."""
    found = _PLAIN.fullmatch(url)
    if found is None:
        return None
    scheme = found["scheme"].lower()
    return Origin(scheme, found["host"].lower(), int(found["port"] or DEFAULT_PORTS[scheme]))


def _listed() -> Iterator[tuple[str, int]]:
    """Yield (host, port) of each entry of `LLM_ALLOWED_HOSTS`; the default port is that of https."""
    for entry in settings.LLM_ALLOWED_HOSTS:
        if found := _ENTRY.fullmatch(entry.strip()):
            yield found["host"].lower(), int(found["port"] or DEFAULT_PORTS["https"])
