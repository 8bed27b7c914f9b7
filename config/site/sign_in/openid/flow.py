"""The two halves of a sign-in through the provider: to the provider, and back."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.http import HttpRequest
from django.utils.translation import gettext as _

from config.site.sign_in.openid.errors import OpenIDRefused
from config.site.sign_in.openid.provider import id_token_of, provider
from config.site.sign_in.openid.tokens import claims_of

# The key in the browser's session: {state: begun login}.
KEY = "sign_in_openid"
# How many logins a browser may begin at a time, in several tabs, and for how many seconds they are valid.
BEGUN_MAX = 5
LASTS_S = 600


@dataclass(frozen=True)
class Begun:
    """A login that was begun in this browser; the provider's redirect must match it."""

    nonce: str
    verifier: str
    next_url: str
    begun_at: float
    # The account that is to be linked; None for a login.
    link_user_id: int | None = None


def authorization_url(
    request: HttpRequest, *, redirect_uri: str, next_url: str, link_user_id: int | None = None
) -> str:
    """Return the provider's URL for a new login, and remember the login in the browser's session.

    Raises `OpenIDRefused`.
    """
    found = provider()
    state = secrets.token_urlsafe(32)
    begun = Begun(secrets.token_urlsafe(32), secrets.token_urlsafe(48), next_url, time.time(), link_user_id)
    earlier = list(_begun(request).items())[-(BEGUN_MAX - 1) :]
    request.session[KEY] = {**dict(earlier), state: asdict(begun)}
    challenge = base64.urlsafe_b64encode(hashlib.sha256(begun.verifier.encode()).digest()).rstrip(b"=").decode()
    query = {
        "response_type": "code",
        "client_id": settings.OIDC_CLIENT_ID,
        "redirect_uri": redirect_uri,
        "scope": settings.OIDC_SCOPES,
        "state": state,
        "nonce": begun.nonce,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    joint = "&" if "?" in found.authorization_endpoint else "?"
    return f"{found.authorization_endpoint}{joint}{urlencode(query)}"


def returned_claims(request: HttpRequest, *, redirect_uri: str) -> tuple[Begun, dict[str, Any]]:
    """Return the login that the provider's redirect belongs to, and the verified claims that it brings.

    The login is forgotten first, so that no redirect is accepted twice. Raises `OpenIDRefused`.
    """
    begun = _take(request)
    found = provider()
    if request.GET.get("iss", found.issuer) != found.issuer:
        # RFC 9207: this is the response of another provider.
        message = _("The response did not come from %(provider)s.") % {"provider": settings.OIDC_NAME}
        hint = _("Try again; if this continues, tell an administrator.")
        raise OpenIDRefused(message, hint=hint, reason="issuer")
    code = request.GET.get("code", "")
    if not code:
        message = _("%(provider)s did not confirm your account.") % {"provider": settings.OIDC_NAME}
        raise OpenIDRefused(message, hint=_("Try again."), reason="no code")
    token = id_token_of(found, code=code, verifier=begun.verifier, redirect_uri=redirect_uri)
    return begun, claims_of(token, provider=found, nonce=begun.nonce)


def _take(request: HttpRequest) -> Begun:
    begun = _begun(request)
    values = begun.pop(request.GET.get("state", ""), None)
    request.session[KEY] = begun
    if values is None:
        message = _("The response does not belong to a login that is in progress in this browser.")
        raise OpenIDRefused(message, hint=_("Start again."), reason="state")
    found = Begun(**values)
    if not 0 <= time.time() - found.begun_at < LASTS_S:
        raise OpenIDRefused(_("The login took too long."), hint=_("Start it again."), reason="too late")
    return found


def _begun(request: HttpRequest) -> dict[str, Any]:
    return dict(request.session.get(KEY) or {})
