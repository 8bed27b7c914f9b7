"""Verify an ID token: signature, issuer, audience, times and nonce."""

from __future__ import annotations

import hmac
from typing import Any

import jwt
from django.conf import settings
from django.utils.translation import gettext as _

from config.site.sign_in.openid.errors import OpenIDRefused
from config.site.sign_in.openid.provider import Provider, keys_of

# Only signatures made with the provider's private key: neither "none" nor HMAC, whose key the client also knows.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
# How far the clocks of the provider and this server may differ.
LEEWAY_S = 60


def claims_of(token: str, *, provider: Provider, nonce: str) -> dict[str, Any]:
    """Return the claims of an ID token that is genuine, for this client, not expired, and for this login.

    Raises `OpenIDRefused`. Its reason names the check that failed, or is "provider" if the keys cannot be fetched.
    """
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            _key(token, provider),
            algorithms=list(ALGORITHMS),
            audience=settings.OIDC_CLIENT_ID,
            issuer=provider.issuer,
            leeway=LEEWAY_S,
            options={"require": ["exp", "iat", "iss", "aud", "sub"]},
        )
    except jwt.PyJWTError as error:
        raise _invalid(_reason(error)) from error
    _require_party(claims)
    if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
        raise _invalid("nonce")
    if not isinstance(claims["sub"], str) or not claims["sub"]:
        raise _invalid("subject")
    return claims


def _key(token: str, provider: Provider) -> jwt.PyJWK:
    header = jwt.get_unverified_header(token)
    algorithm = header.get("alg")
    if algorithm not in ALGORITHMS:
        raise _invalid("algorithm")
    keys = [key for key in keys_of(provider) if key.get("use", "sig") == "sig"]
    if "kid" in header:
        keys = [key for key in keys if key.get("kid") == header["kid"]]
    if len(keys) != 1:
        raise _invalid("key")
    return jwt.PyJWK(keys[0], algorithm=algorithm)


def _require_party(claims: dict[str, Any]) -> None:
    """Refuse a token that was issued to another client, or is for several clients without naming this one in `azp`."""
    audience = claims["aud"]
    if isinstance(audience, list) and len(audience) > 1 and claims.get("azp") != settings.OIDC_CLIENT_ID:
        raise _invalid("audience")
    if claims.get("azp") not in (None, settings.OIDC_CLIENT_ID):
        raise _invalid("audience")


def _reason(error: jwt.PyJWTError) -> str:
    reasons: dict[type[jwt.PyJWTError], str] = {
        jwt.InvalidSignatureError: "signature",
        jwt.ExpiredSignatureError: "expired",
        jwt.ImmatureSignatureError: "not yet valid",
        jwt.InvalidAudienceError: "audience",
        jwt.InvalidIssuerError: "issuer",
        jwt.MissingRequiredClaimError: "claim missing",
    }
    return reasons.get(type(error), "token")


def _invalid(reason: str) -> OpenIDRefused:
    return OpenIDRefused(
        _("The response from %(provider)s is not valid.") % {"provider": settings.OIDC_NAME},
        hint=_("Try again; if this continues, tell an administrator."),
        reason=reason,
    )
