"""The first authentication backend: refuses some logins before any other backend checks the password."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.utils import timezone

from config.site.sign_in.client_address import throttled_address
from config.site.sign_in.models import PasswordPermit
from config.site.sign_in.throttle import Attempt, attempt_begin

NAME = "config.site.sign_in.backends.ThrottleBackend"
ATTEMPT = "sign_in_attempt"


class ThrottleBackend:
    """Refuses locked logins (`config.site.sign_in.throttle`), and passwords from anyone who may not use one.

    It counts each attempt that is not locked as failed; `attempt_succeeded` takes that back. It never authenticates
    anyone and gives no permissions. It has no `get_user`, so no session refers to it.
    """

    def authenticate(self, request: HttpRequest | None, **credentials: Any) -> None:
        username, password = credentials.get("username"), credentials.get("password")
        if request is None or not username or password is None:
            return
        attempt = attempt_begin(username=str(username), address=throttled_address(request))
        setattr(request, ATTEMPT, attempt)
        if attempt.locked_until or not may_use_password(str(username)):
            # Django then asks no other backend.
            raise PermissionDenied


def attempt_of(request: HttpRequest | None) -> Attempt | None:
    return getattr(request, ATTEMPT, None)


def may_use_password(username: str) -> bool:
    """Return whether this name may use a password: any name if PASSWORD_LOGIN is on, else a superuser with a permit."""
    return bool(settings.PASSWORD_LOGIN) or _permits().filter(user__username=username, user__is_superuser=True).exists()


def is_password_offered() -> bool:
    """Return whether the login page asks for a password."""
    return bool(settings.PASSWORD_LOGIN) or _permits().exists()


def account_backend() -> str:
    """Return the backend that loads the user of a session: the first one in the settings after the throttle."""
    return next(backend for backend in settings.AUTHENTICATION_BACKENDS if backend != NAME)


def _permits() -> Any:
    return PasswordPermit.objects.using("default").filter(expires_at__gt=timezone.now())
