"""Sessions of staff: opened by a login, checked on every request, ended by a person, a timeout or a change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from enum import StrEnum
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from audit.log.entries import record
from config.site.sign_in.client_address import client_address
from config.site.sign_in.models import StaffSession

# The key in the browser's session that holds the id of its row.
SESSION_ID = "sign_in_session"
# How exact "last seen" is: a page that polls must not cause a write with every request.
SEEN_EVERY = timedelta(seconds=60)
# How long ended sessions are kept, to answer questions about them.
KEPT = timedelta(days=30)

_current: ContextVar[UUID | None] = ContextVar("sign_in_session", default=None)


class EndReason(StrEnum):
    LOGOUT = "logout"
    OWNER = "owner"
    ADMINISTRATOR = "administrator"
    PASSWORD = "password"
    DEACTIVATED = "deactivated"
    RIGHTS = "rights"
    SECOND_FACTOR = "second_factor"
    IDLE = "idle"
    AGE = "age"
    UNKNOWN = "unknown"


def session_open(*, user: User, request: HttpRequest, method: str, is_verified: bool) -> StaffSession:
    """Open a session for a login and record the login; return the session. Delete the user's long expired ones."""
    now = timezone.now()
    with transaction.atomic(using="default"):
        _forget_old(user)
        row = StaffSession.objects.using("default").create(
            user=user,
            opened_at=now,
            seen_at=now,
            address=client_address(request),
            browser=request.META.get("HTTP_USER_AGENT", "").replace("\x00", "")[:200],
            is_verified=is_verified,
        )
        record(
            using="default",
            action="login.complete",
            resource_type="user",
            resource_id=str(user.pk),
            details={
                "address": row.address,
                "method": method,
                "second_factor": is_verified,
                "session": str(row.pk),
            },
        )
    return row


def session_check(request: HttpRequest, *, user_id: int) -> EndReason | None:
    """Return why the request's session has ended; None if it may continue.

    Ends a session that has expired or lacks a required second factor. Records the use of one that may continue, at most
    once a minute.
    """
    row = _row_of(request)
    if row is None or row.user_id != user_id:
        return EndReason.UNKNOWN
    if row.ended_at is not None:
        return EndReason(row.end_reason)
    reason = _expired(row)
    if reason is not None:
        sessions_end(_open().filter(pk=row.pk), reason=reason)
        return reason
    now = timezone.now()
    if now - row.seen_at >= SEEN_EVERY:
        StaffSession.objects.using("default").filter(pk=row.pk).update(seen_at=now, address=client_address(request))
    return None


def sessions_of(user: User) -> QuerySet[StaffSession]:
    """Return the user's open sessions that are neither too old nor idle for too long, most recently seen first."""
    return _unexpired().filter(user=user).order_by("-seen_at", "-opened_at")


def session_counts() -> dict[int, int]:
    """Return how many sessions `sessions_of` finds for each user, by the user's id; only users who have one."""
    return dict(_unexpired().order_by().values_list("user_id").annotate(Count("pk")))


def session_end_reason(session: UUID) -> EndReason | None:
    """Return why the session was ended; None if it was not, or is not known."""
    row = StaffSession.objects.using("default").filter(pk=session, ended_at__isnull=False).first()
    return EndReason(row.end_reason) if row else None


def sessions_end(rows: QuerySet[StaffSession], *, reason: EndReason) -> int:
    """End these sessions: their browsers must log in again on the next request. Return how many were open."""
    with transaction.atomic(using="default"):
        found = list(rows.select_for_update().filter(ended_at=None))
        for row in found:
            row.ended_at, row.end_reason = timezone.now(), reason
            row.save(using="default", update_fields=["ended_at", "end_reason"])
        for row in found:
            record(
                using="default",
                action="session.close" if reason == EndReason.LOGOUT else "session.end",
                resource_type="user",
                resource_id=str(row.user_id),
                details={"session": str(row.pk), "reason": str(reason)},
            )
    return len(found)


def sessions_end_of(user_id: int, *, reason: EndReason, except_current: bool = False) -> int:
    """End a user's sessions (with `except_current`, not that of the current request); return how many were open."""
    rows, current = _open().filter(user_id=user_id), _current.get()
    return sessions_end(rows.exclude(pk=current) if except_current and current else rows, reason=reason)


def session_id(request: HttpRequest) -> UUID | None:
    """Return the id of the request's session; None before the login."""
    try:
        return UUID(str(request.session[SESSION_ID]))
    except (KeyError, ValueError):
        return None


@contextmanager
def serving(session: UUID | None) -> Iterator[None]:
    """Make `session` the current one inside the block."""
    token = _current.set(session)
    try:
        yield
    finally:
        _current.reset(token)


def _row_of(request: HttpRequest) -> StaffSession | None:
    session = session_id(request)
    return StaffSession.objects.using("default").filter(pk=session).first() if session else None


def _open() -> QuerySet[StaffSession]:
    return StaffSession.objects.using("default").filter(ended_at=None)


def _unexpired() -> QuerySet[StaffSession]:
    """Return the open sessions that are neither too old nor idle for too long."""
    now = timezone.now()
    found = _open().filter(opened_at__gt=now - timedelta(seconds=settings.SESSION_COOKIE_AGE))
    if settings.SESSION_IDLE_TIMEOUT_S:
        found = found.filter(seen_at__gt=now - timedelta(seconds=settings.SESSION_IDLE_TIMEOUT_S))
    return found


def _expired(row: StaffSession) -> EndReason | None:
    now = timezone.now()
    if now - row.opened_at >= timedelta(seconds=settings.SESSION_COOKIE_AGE):
        return EndReason.AGE
    if settings.SESSION_IDLE_TIMEOUT_S and now - row.seen_at >= timedelta(seconds=settings.SESSION_IDLE_TIMEOUT_S):
        return EndReason.IDLE
    if settings.SECOND_FACTOR == "required" and not row.is_verified:
        return EndReason.SECOND_FACTOR
    return None


def _forget_old(user: User) -> None:
    """Delete the user's sessions that reached their maximum age over `KEPT` ago, whether or not they were ended."""
    now = timezone.now()
    mine = StaffSession.objects.using("default").filter(user=user)
    mine.filter(opened_at__lt=now - KEPT - timedelta(seconds=settings.SESSION_COOKIE_AGE)).delete()
