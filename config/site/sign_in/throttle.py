"""Count failed logins by name and address, and by address alone; after too many, refuse logins for a while.

The counts are in the control database, so that they survive a restart of Valkey. No lock on a name holds for every
address: otherwise anyone could lock out a person whose name they know.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from audit.log.entries import record
from config.site.sign_in.client_address import counted_address
from config.site.sign_in.models import FailedLogins

ANY_NAME = ""


@dataclass(frozen=True)
class Attempt:
    """A login attempt. Unless a lock refuses it, it is counted as failed before its password is checked."""

    username: str
    address: str
    # The failures so far, this one included: with this name from this address, and with any name from it.
    failures: int = 0
    address_failures: int = 0
    # Set if the attempt is refused; then it was not counted.
    locked_until: datetime | None = None

    @property
    def minutes_locked(self) -> int:
        return minutes_until(self.locked_until) if self.locked_until else 1


def minutes_until(end: datetime) -> int:
    """Return the minutes until a lock ends, rounded up; at least 1."""
    return max(1, -int(-(end - timezone.now()).total_seconds() // 60))


def attempt_begin(*, username: str, address: str) -> Attempt:
    """Count an attempt as failed and return it. If a lock refuses it, it is not counted, and `locked_until` is set.

    Counting before the password is checked means that attempts in parallel cannot exceed the limit.
    """
    now = timezone.now()
    with transaction.atomic(using="default"):
        # Always locked in this order, so that two attempts cannot deadlock.
        by_address, by_name = _locked_row(ANY_NAME, address, now), _locked_row(name_digest(username), address, now)
        locks = [row.locked_until for row in (by_address, by_name) if row.locked_until]
        if locks:
            return Attempt(username, address, locked_until=max(locks))
        _count(by_address, settings.LOGIN_ADDRESS_FAILURES_MAX, now)
        _count(by_name, settings.LOGIN_FAILURES_MAX, now)
    return Attempt(username, address, by_name.failures, by_address.failures)


def attempt_failed(attempt: Attempt, *, user_id: int | None) -> None:
    """Record a failed login, and any lock that it caused; `user_id` is None if no account has the name."""
    target = {"resource_type": "user", "resource_id": "unknown" if user_id is None else str(user_id)}
    with transaction.atomic(using="default"):
        details: dict[str, object] = {"address": attempt.address}
        record(using="default", action="login.fail", **target, details=details)
        if attempt.failures == settings.LOGIN_FAILURES_MAX:
            record(using="default", action="login.lock", **target, details=details)
        if attempt.address_failures == settings.LOGIN_ADDRESS_FAILURES_MAX:
            record(
                using="default",
                action="login.lock",
                resource_type="address",
                resource_id=attempt.address or "unknown",
                details={"failures": attempt.address_failures},
            )


def attempt_succeeded(attempt: Attempt) -> None:
    """Forget the failed logins with this name from this address, and no longer count this attempt for the address."""
    with transaction.atomic(using="default"):
        row = _locked_row(ANY_NAME, attempt.address, timezone.now())
        row.failures = max(0, row.failures - 1)
        if row.failures < settings.LOGIN_ADDRESS_FAILURES_MAX:
            row.locked_until = None
        row.save(using="default")
        digest = name_digest(attempt.username)
        FailedLogins.objects.using("default").filter(name_digest=digest, address=attempt.address).delete()


def logins_unlock(*, username: str | None = None, address: str | None = None) -> int:
    """Forget the failed logins with a name, from an address, or all; return how many locks this ends."""
    rows = FailedLogins.objects.using("default").all()
    if username is not None:
        rows = rows.filter(name_digest=name_digest(username))
    if address is not None:
        rows = rows.filter(address=counted_address(address))
    with transaction.atomic(using="default"):
        opened = rows.filter(locked_until__gt=timezone.now()).count()
        rows.delete()
        record(
            using="default",
            action="login.unlock",
            resource_type="login",
            resource_id=address or "any",
            details={"locks": opened, "by_name": username is not None},
        )
    return opened


def name_digest(username: str) -> str:
    """Return a digest of the name that only this installation can compute, as someone may type a password there."""
    text = username.casefold().encode(errors="surrogatepass")
    return hmac.new(settings.SECRET_KEY.encode(), b"failed login:" + text, hashlib.sha256).hexdigest()


def _locked_row(digest: str, address: str, now: datetime) -> FailedLogins:
    """Return the row, made if missing and locked until the transaction ends; reset what has expired, without saving."""
    objects = FailedLogins.objects.using("default")
    row, is_new = objects.select_for_update().get_or_create(
        name_digest=digest, address=address, defaults={"since": now}
    )
    if is_new:
        _forget_old(now)
    is_over = row.locked_until is not None and row.locked_until <= now
    if is_over or row.since <= now - _span():
        row.failures, row.since, row.locked_until = 0, now, None
    return row


def _count(row: FailedLogins, limit: int, now: datetime) -> None:
    row.failures += 1
    if row.failures >= limit:
        row.locked_until = now + _span()
    row.save(using="default")


def _forget_old(now: datetime) -> None:
    """Delete rows that no longer count, such as those of names and addresses that never come back."""
    old = FailedLogins.objects.using("default").filter(since__lt=now - 3 * _span())
    unused = old.select_for_update(skip_locked=True).values_list("pk", flat=True)
    FailedLogins.objects.using("default").filter(pk__in=list(unused)).delete()


def _span() -> timedelta:
    return timedelta(seconds=settings.LOGIN_LOCK_S)
