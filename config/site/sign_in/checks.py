"""System checks of the settings for signing in; their ids are stable."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core import checks
from django.utils.translation import gettext as _

from config.site.sign_in.backends import NAME
from config.site.sign_in.openid.provider import is_configured, is_safe

GOOGLE = "https://accounts.google.com"


@checks.register()
def sign_in_settings(**kwargs: Any) -> list[checks.CheckMessage]:
    """Return errors for settings that contradict each other, are unsafe, or would keep everyone from logging in."""
    return [*_openid(), *_passwords(), *_limits()]


@checks.register(checks.Tags.security, deploy=True)
def proxies_are_named(**kwargs: Any) -> list[checks.CheckMessage]:
    """Return a warning if a proxy is used but not trusted: all logins would share its address and its locks."""
    if settings.TRUSTED_PROXIES or settings.SECURE_PROXY_SSL_HEADER is None:
        return []
    return [
        checks.Warning(
            _("SECURE_PROXY_SSL_HEADER is set but TRUSTED_PROXIES is not, so all logins seem to come from the proxy."),
            hint=_("Set TRUSTED_PROXIES to the proxy's address."),
            id="sign_in.W001",
        )
    ]


def _openid() -> Iterator[checks.CheckMessage]:
    if bool(settings.OIDC_ISSUER) != bool(settings.OIDC_CLIENT_ID):
        yield _error(_("Only one of OIDC_ISSUER and OIDC_CLIENT_ID is set."), 1, _("Set both, or neither."))
    if not is_configured():
        return
    given = (
        settings.OIDC_ISSUER,
        settings.OIDC_AUTHORIZATION_ENDPOINT,
        settings.OIDC_TOKEN_ENDPOINT,
        settings.OIDC_JWKS_URI,
    )
    for url in given:
        if url and not is_safe(url):
            yield _error(_("The OpenID address %(url)s is not an https address.") % {"url": url}, 2, _("Use https."))
    if settings.OIDC_NEW_USERS == "create" and settings.OIDC_ISSUER == GOOGLE and not settings.OIDC_ALLOWED_DOMAINS:
        yield _error(
            _("With OIDC_NEW_USERS=create, anyone with a Google account could get a staff account."),
            3,
            _("Set OIDC_ALLOWED_DOMAINS to your company's domains."),
        )


def _passwords() -> Iterator[checks.CheckMessage]:
    if not settings.PASSWORD_LOGIN and not is_configured():
        yield _error(
            _("PASSWORD_LOGIN is off, but no OpenID provider is set."),
            4,
            _("Set OIDC_ISSUER and OIDC_CLIENT_ID, or turn PASSWORD_LOGIN on."),
        )
    if settings.AUTHENTICATION_BACKENDS[:1] != [NAME]:
        yield _error(
            _("%(name)s is not the first of AUTHENTICATION_BACKENDS, so passwords could be guessed without a limit.")
            % {"name": NAME},
            5,
            _("Put it first."),
        )


def _limits() -> Iterator[checks.CheckMessage]:
    least = min(settings.LOGIN_FAILURES_MAX, settings.LOGIN_ADDRESS_FAILURES_MAX, settings.LOGIN_LOCK_S)
    if least < 1 or settings.LOGIN_ADDRESS_FAILURES_MAX < settings.LOGIN_FAILURES_MAX:
        yield _error(
            _(
                "LOGIN_FAILURES_MAX and LOGIN_LOCK_S must be at least 1, and LOGIN_ADDRESS_FAILURES_MAX at least"
                " LOGIN_FAILURES_MAX."
            ),
            6,
            _("The defaults are 5, 900 and 50."),
        )
    if settings.SESSION_IDLE_TIMEOUT_S and settings.SESSION_IDLE_TIMEOUT_S > settings.SESSION_COOKIE_AGE:
        yield _error(
            _("SESSION_IDLE_TIMEOUT_S is longer than SESSION_COOKIE_AGE_S, so it would never apply."),
            7,
            _("Use a shorter timeout, or 0 for none."),
        )
    if settings.SESSION_IDLE_TIMEOUT_S and settings.SESSION_IDLE_TIMEOUT_S < 2 * 60:
        yield _error(
            _(
                "SESSION_IDLE_TIMEOUT_S is less than two minutes, but the use of a session is recorded at most once a"
                " minute."
            ),
            8,
            _("Use at least 120, or 0 for no timeout."),
        )


def _error(message: str, number: int, hint: str) -> checks.Error:
    return checks.Error(message, hint=hint, id=f"sign_in.E{number:03}")
