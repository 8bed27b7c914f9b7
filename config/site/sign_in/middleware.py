"""Refuse a session that was ended, has expired or lacks the second factor, before any view of either site."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponseBase

from audit.log.actor import acting_as
from config.site.sign_in.sessions import EndReason, serving, session_check, session_end_reason, session_id

# The key in the browser's new session that holds why its old one ended, for the login page.
ENDED = "sign_in_ended"


class SessionMiddleware:
    """Serve a request as its user only while the session is open, otherwise as a visitor, who has to log in."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if SESSION_KEY not in request.session:
            return self.get_response(request)
        # Read before the user: Django flushes a session whose password was changed.
        session = session_id(request)
        if not request.user.is_authenticated:
            if session is not None:
                self._end(request, session_end_reason(session))
            return self.get_response(request)
        with acting_as(f"staff:{request.user.get_username()}"):
            reason = session_check(request, user_id=request.user.pk)
        if reason is not None:
            self._end(request, reason)
            return self.get_response(request)
        with serving(session):
            return self.get_response(request)

    def _end(self, request: HttpRequest, reason: EndReason | None) -> None:
        """Log the browser out, and keep the reason for the login page."""
        request.session.flush()
        if reason is not None:
            request.session[ENDED] = str(reason)
        request.user = AnonymousUser()
