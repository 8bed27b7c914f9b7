"""The OpenID provider: its addresses, its keys, and exchanging a code for an ID token."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote, urlsplit

from django.conf import settings
from django.utils.translation import gettext as _

from config.site.sign_in.openid.errors import OpenIDRefused

logger = logging.getLogger(__name__)

TIMEOUT_S = 10.0
# In bytes; no provider's response comes close to it.
SIZE_MAX = 1024 * 1024
OK = 200


@dataclass(frozen=True)
class Provider:
    """The provider's addresses, and how it takes the client's secret."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    # How the client's secret is sent: in the header, unless the provider only takes it in the form.
    is_secret_in_form: bool = False


def is_configured() -> bool:
    return bool(settings.OIDC_ISSUER and settings.OIDC_CLIENT_ID)


def provider() -> Provider:
    """Return the provider in the settings. Addresses that are not set come from its discovery document.

    Raises `OpenIDRefused` if the document cannot be fetched, is about another issuer, or has an address that is not
    safe.
    """
    given = (settings.OIDC_AUTHORIZATION_ENDPOINT, settings.OIDC_TOKEN_ENDPOINT, settings.OIDC_JWKS_URI)
    if all(given):
        return Provider(settings.OIDC_ISSUER, *given)
    document = _fetch("GET", settings.OIDC_ISSUER.rstrip("/") + "/.well-known/openid-configuration")
    if document.get("issuer") != settings.OIDC_ISSUER:
        raise _unusable("discovery names another issuer")
    methods = document.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
    found = Provider(
        settings.OIDC_ISSUER,
        str(given[0] or document.get("authorization_endpoint")),
        str(given[1] or document.get("token_endpoint")),
        str(given[2] or document.get("jwks_uri")),
        is_secret_in_form="client_secret_basic" not in methods,
    )
    for url in (found.authorization_endpoint, found.token_endpoint, found.jwks_uri):
        if not is_safe(url):
            raise _unusable(f"{url} is not an https address")
    return found


def is_safe(url: str) -> bool:
    """Return whether codes and secrets may be sent to `url`: over https, or to this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host)))


def id_token_of(provider: Provider, *, code: str, verifier: str, redirect_uri: str) -> str:
    """Exchange an authorization code for an ID token, which is not verified yet. Raises `OpenIDRefused`."""
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect_uri,
        "code_verifier": verifier,
    }
    # RFC 6749, section 2.3.1: both are encoded before they become the header.
    login = (quote(settings.OIDC_CLIENT_ID, safe=""), quote(settings.OIDC_CLIENT_SECRET, safe=""))
    if provider.is_secret_in_form or not settings.OIDC_CLIENT_SECRET:
        form |= {"client_id": settings.OIDC_CLIENT_ID}
        form |= {"client_secret": settings.OIDC_CLIENT_SECRET} if settings.OIDC_CLIENT_SECRET else {}
        document = _fetch("POST", provider.token_endpoint, data=form)
    else:
        document = _fetch("POST", provider.token_endpoint, data=form, auth=login)
    token = document.get("id_token")
    if not isinstance(token, str):
        raise _unusable("no ID token in the answer")
    return token


def keys_of(provider: Provider) -> list[dict[str, Any]]:
    """Fetch the provider's public keys. They are not cached, because keys are replaced and logins are rare.

    Raises `OpenIDRefused`.
    """
    keys = _fetch("GET", provider.jwks_uri).get("keys")
    return [key for key in keys if isinstance(key, dict)] if isinstance(keys, list) else []


def _fetch(method: str, url: str, **arguments: Any) -> dict[str, Any]:
    import httpx2  # slow to load, and every command loads this app

    try:
        with (
            httpx2.Client(timeout=TIMEOUT_S, follow_redirects=False) as client,
            client.stream(method, url, headers={"Accept": "application/json"}, **arguments) as response,
        ):
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > SIZE_MAX:
                    raise _unusable("the answer is too long")
            if response.status_code != OK:
                raise _unusable(f"status {response.status_code}")
        document = json.loads(body)
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, RecursionError) as error:
        raise _unusable(type(error).__name__) from error
    if not isinstance(document, dict):
        raise _unusable("the answer is not an object")
    return document


def _unusable(detail: str) -> OpenIDRefused:
    logger.warning("OpenID provider unusable", extra={"action": "openid.fetch", "reason": detail})
    return OpenIDRefused(
        _("%(provider)s did not answer as expected.") % {"provider": settings.OIDC_NAME},
        hint=_("Try again; if this continues, tell an administrator."),
        reason="provider",
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
