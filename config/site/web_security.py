"""The Content-Security-Policy header, and values of security settings that are derived from the environment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponseBase

# The theme's scripts are Alpine.js, which compiles the expressions in its attributes: hence 'unsafe-eval'. Nothing
# needs inline scripts. Colors and sizes are in <style> elements and attributes: hence 'unsafe-inline' for styles.
CONTENT_SECURITY_POLICY: Mapping[str, Sequence[str]] = {
    "default-src": ["'none'"],
    "script-src": ["'self'", "'unsafe-eval'"],
    "style-src": ["'self'", "'unsafe-inline'"],
    "img-src": ["'self'", "data:"],
    "font-src": ["'self'"],
    "connect-src": ["'self'"],
    "form-action": ["'self'"],
    "frame-ancestors": ["'none'"],
    "base-uri": ["'none'"],
}


class ContentSecurityPolicyMiddleware:
    """Add the policy of the setting SECURE_CSP to responses that have none, including static files and errors.

    Django 6 has a middleware and a setting with these names. Once we use Django 6, remove this class.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        from django.conf import settings

        self._get_response = get_response
        self._policy = "; ".join(" ".join([name, *sources]) for name, sources in settings.SECURE_CSP.items())

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        response.headers.setdefault("Content-Security-Policy", self._policy)
        return response


def on_loopback_alone(allowed_hosts: Iterable[str]) -> bool:
    """Return whether all allowed hosts are names or addresses of this machine's loopback interface."""
    return all(_is_loopback(host.strip()) for host in allowed_hosts)


def proxy_header(name: str) -> tuple[str, str] | None:
    """Return the setting SECURE_PROXY_SSL_HEADER for a header such as X-Forwarded-Proto; None if `name` is empty."""
    return (f"HTTP_{name.strip().upper().replace('-', '_')}", "https") if name.strip() else None


def networks(addresses: Iterable[str]) -> list[IPv4Network | IPv6Network]:
    """Parse the items of the setting TRUSTED_PROXIES; raise `ImproperlyConfigured` if one is invalid."""
    try:
        return [ip_network(address.strip()) for address in addresses if address.strip()]
    except ValueError:
        raise ImproperlyConfigured("TRUSTED_PROXIES must be addresses or networks, such as 10.0.0.0/8") from None


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False
