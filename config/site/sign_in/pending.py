"""A login that still lacks its second factor: the browser reaches only the pages for signing in."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from config.site.sign_in.backends import account_backend
from config.site.sign_in.middleware import ENDED
from config.site.sign_in.second_factor import factor_of
from config.site.sign_in.signals import METHOD, VERIFIED

KEY = "sign_in_pending"
SECRET = "sign_in_secret"
# How many seconds a person has to find their phone.
LASTS_S = 600


@dataclass(frozen=True)
class Pending:
    """Someone whose password or OpenID login was accepted, but not yet the second factor."""

    user_id: int
    # Changes with the password, so that a new password ends this too.
    password_hash: str
    method: str
    begun_at: float
    next_url: str

    @property
    def is_over(self) -> bool:
        return not 0 <= time.time() - self.begun_at < LASTS_S


def sign_in_proceed(request: HttpRequest, user: User, *, method: str, next_url: str) -> HttpResponse:
    """Log `user` in, or redirect to the page that asks for the second factor, or that sets up a required one."""
    if method == "openid" and settings.OIDC_SKIPS_SECOND_FACTOR:
        return sign_in_complete(request, user, method=method, next_url=next_url, is_verified=True)
    has_factor = factor_of(user) is not None
    if not has_factor and settings.SECOND_FACTOR != "required":
        return sign_in_complete(request, user, method=method, next_url=next_url, is_verified=False)
    # With a new session key, no one who knew the old one can finish this login.
    request.session.flush()
    pending = Pending(user.pk, user.get_session_auth_hash(), method, time.time(), next_url)
    request.session[KEY] = asdict(pending)
    return HttpResponseRedirect(reverse("admin:sign_in_code" if has_factor else "admin:sign_in_enrol"))


def sign_in_complete(
    request: HttpRequest, user: User, *, method: str, next_url: str, is_verified: bool
) -> HttpResponse:
    """Log `user` in and return the redirect to the page that was asked for."""
    for key in (KEY, SECRET, ENDED):
        request.session.pop(key, None)
    setattr(request, METHOD, method)
    setattr(request, VERIFIED, is_verified)
    login(request, user, backend=account_backend())
    return HttpResponseRedirect(next_url)


def pending_sign_in(request: HttpRequest) -> tuple[Pending, User] | None:
    """Return this browser's unfinished login and its user; None if there is none, or if it is no longer valid."""
    try:
        pending = Pending(**request.session[KEY])
    except (KeyError, TypeError):
        return None
    user = User.objects.using("default").filter(pk=pending.user_id, is_active=True, is_staff=True).first()
    if pending.is_over or user is None or user.get_session_auth_hash() != pending.password_hash:
        del request.session[KEY]
        return None
    return pending, user
