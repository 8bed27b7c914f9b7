"""On Django's signals, open and end sessions and record failed logins, whatever code logs in or out or saves a user."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db.models.signals import post_save, pre_save
from django.dispatch import receiver
from django.http import HttpRequest

from audit.log.actor import acting_as
from config.site.sign_in.backends import attempt_of
from config.site.sign_in.models import StaffSession
from config.site.sign_in.sessions import (
    SESSION_ID,
    EndReason,
    session_id,
    session_open,
    sessions_end,
    sessions_end_of,
)
from config.site.sign_in.throttle import attempt_failed

# The request attributes that say how this login was made.
METHOD, VERIFIED = "sign_in_method", "sign_in_verified"
WATCHED = {"is_active", "is_staff", "is_superuser", "password"}
# The attribute of a user about to be saved that holds why the change ends sessions.
CHANGED = "_sign_in_changed"


@receiver(user_logged_in)
def open_session(request: HttpRequest, user: User, **kwargs: Any) -> None:
    with acting_as(f"staff:{user.get_username()}"):
        row = session_open(
            user=user,
            request=request,
            method=getattr(request, METHOD, "password"),
            is_verified=getattr(request, VERIFIED, False),
        )
    request.session[SESSION_ID] = str(row.pk)


@receiver(user_logged_out)
def end_session(request: HttpRequest, user: User | None, **kwargs: Any) -> None:
    session = session_id(request)
    if session is None or user is None:
        return
    with acting_as(f"staff:{user.get_username()}"):
        sessions_end(StaffSession.objects.using("default").filter(pk=session), reason=EndReason.LOGOUT)


@receiver(user_login_failed)
def record_failure(credentials: dict[str, Any], request: HttpRequest | None = None, **kwargs: Any) -> None:
    attempt = attempt_of(request)
    # During a lock, attempts are not recorded: anyone could fill the log.
    if attempt is None or attempt.locked_until:
        return
    found = User.objects.using("default").filter(username=attempt.username).values_list("pk", flat=True).first()
    attempt_failed(attempt, user_id=found)


@receiver(pre_save, sender=User)
def notice_change(instance: User, update_fields: frozenset[str] | None = None, **kwargs: Any) -> None:
    is_relevant = instance.pk and (update_fields is None or WATCHED & set(update_fields))
    before = User.objects.using("default").filter(pk=instance.pk).first() if is_relevant else None
    setattr(instance, CHANGED, _reason(before, instance) if before else None)


@receiver(post_save, sender=User)
def end_sessions(instance: User, **kwargs: Any) -> None:
    reason = getattr(instance, CHANGED, None)
    if reason is not None:
        sessions_end_of(instance.pk, reason=reason, except_current=reason == EndReason.PASSWORD)


def _reason(before: User, after: User) -> EndReason | None:
    """Return why a change ends the user's sessions; None if it does not."""
    if before.is_active and not after.is_active:
        return EndReason.DEACTIVATED
    if any(getattr(before, right) and not getattr(after, right) for right in ("is_staff", "is_superuser")):
        return EndReason.RIGHTS
    if before.password != after.password:
        return EndReason.PASSWORD
    return None
