"""The second factor: an authenticator app (TOTP, RFC 6238), and recovery codes for when the phone is gone."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from audit.log.entries import record
from config.base.errors import SeoGenError
from config.site.sign_in.models import RecoveryCode, SecondFactor
from config.site.sign_in.sessions import EndReason, sessions_end_of
from config.site.sign_in.throttle import minutes_until

ISSUER = "seo-gen"
STEP_S = 30
DIGITS = 6
# By how many time steps a phone's clock may be fast or slow.
DRIFT = 1
SECRET_BYTES = 20
RECOVERY_CODES = 10
RECOVERY_BYTES = 10


class CodeRefused(SeoGenError):
    """A code is wrong or was used already, too many wrong codes were entered, or the account has no second factor or
    already has one.
    """

    code = "second_factor_refused"


@dataclass(frozen=True)
class Enrolled:
    """A new second factor. Its recovery codes cannot be shown again later."""

    factor: SecondFactor
    recovery_codes: list[str]


def factor_of(user: User) -> SecondFactor | None:
    """Return the second factor that a login of `user` must pass; None if there is none, or SECOND_FACTOR is off."""
    if settings.SECOND_FACTOR == "off":
        return None
    return SecondFactor.objects.using("default").filter(user=user).first()


def new_secret() -> str:
    """Return a random secret in the form that authenticator apps expect."""
    return base64.b32encode(secrets.token_bytes(SECRET_BYTES)).decode()


def provisioning_uri(*, secret: str, username: str) -> str:
    """Return the URI that the QR code holds."""
    return _totp(secret).get_provisioning_uri(username, ISSUER)


def factor_enrol(*, user: User, secret: str, code: str) -> Enrolled:
    """Give a user a second factor after checking one of its codes; end the user's other sessions, opened without it.

    Raises `CodeRefused` if the code is wrong, or if the user has a second factor already.
    """
    step = _matching_step(secret, code, after=-1)
    if step is None:
        raise CodeRefused(_("This code is wrong. Enter the code that the app shows now."))
    with transaction.atomic(using="default"):
        User.objects.using("default").select_for_update().get(pk=user.pk)
        if SecondFactor.objects.using("default").filter(user=user).exists():
            raise CodeRefused(_("Your account has a second factor already."), hint=_("Reload the page."))
        factor = SecondFactor.objects.using("default").create(
            user=user, secret=secret, confirmed_at=timezone.now(), last_step=step
        )
        codes = _new_recovery_codes(factor)
        sessions_end_of(user.pk, reason=EndReason.SECOND_FACTOR, except_current=True)
        _record("second_factor.enable", user)
    return Enrolled(factor, codes)


def factor_verify(*, user: User, code: str) -> None:
    """Accept a code from the authenticator app, or a recovery code, once.

    Raises `CodeRefused`; after LOGIN_FAILURES_MAX wrong codes in a row, all are refused for LOGIN_LOCK_S.
    """
    # The transaction must commit the count of a refusal, so the error is raised outside.
    with transaction.atomic(using="default"):
        refusal = _verify(user, code)
    if refusal is not None:
        raise refusal


def factor_disable(*, user: User, code: str) -> None:
    """Remove the user's own second factor after checking one of its codes.

    The caller must have checked the password, if the account has one. The user's other sessions end.
    If SECOND_FACTOR is required, the current one ends too, and the next login that needs a second
    factor asks the user to set up a new one. Raises `CodeRefused`.
    """
    factor_verify(user=user, code=code)
    with transaction.atomic(using="default"):
        SecondFactor.objects.using("default").filter(user=user).delete()
        sessions_end_of(user.pk, reason=EndReason.SECOND_FACTOR, except_current=settings.SECOND_FACTOR != "required")
        _record("second_factor.disable", user)


def factor_reset(*, user: User) -> bool:
    """Remove another person's second factor, for example after they lost their phone, and end their sessions.

    Returns whether there was a second factor; without one, nothing is done.
    """
    with transaction.atomic(using="default"):
        removed, _rows = SecondFactor.objects.using("default").filter(user=user).delete()
        if removed:
            sessions_end_of(user.pk, reason=EndReason.SECOND_FACTOR)
            _record("second_factor.reset", user)
    return bool(removed)


def recovery_codes_replace(*, user: User, code: str) -> list[str]:
    """Replace the recovery codes after checking a code; return the new ones. Raises `CodeRefused`."""
    factor_verify(user=user, code=code)
    with transaction.atomic(using="default"):
        factor = SecondFactor.objects.using("default").select_for_update().get(user=user)
        factor.recovery_codes.all().delete()
        codes = _new_recovery_codes(factor)
        _record("second_factor.codes", user)
    return codes


def recovery_codes_left(factor: SecondFactor) -> int:
    return RecoveryCode.objects.using("default").filter(factor=factor, used_at=None).count()


def _verify(user: User, code: str) -> CodeRefused | None:
    now = timezone.now()
    factor = SecondFactor.objects.using("default").select_for_update().filter(user=user).first()
    if factor is None:
        return CodeRefused(_("Your account has no second factor."), hint=_("If you are logging in, start again."))
    if factor.locked_until and factor.locked_until > now:
        minutes = minutes_until(factor.locked_until)
        return CodeRefused(
            _("Too many wrong codes were entered."),
            hint=ngettext("Wait %(count)d minute, then try again.", "Wait %(count)d minutes, then try again.", minutes)
            % {"count": minutes},
        )
    if factor.locked_until:
        factor.failures, factor.locked_until = 0, None
    step = _matching_step(factor.secret, code, after=factor.last_step)
    is_recovery = step is None and _use_recovery_code(factor, code, now)
    if step is None and not is_recovery:
        _count_failure(factor, now)
        return CodeRefused(
            _("This code is wrong or was used already."),
            hint=_("Wait for the next code of the app, or use a recovery code that you have not used yet."),
        )
    factor.last_step = max(factor.last_step, step or 0)
    factor.failures = 0
    factor.save(using="default")
    if is_recovery:
        _record("second_factor.recover", user)
    return None


def _count_failure(factor: SecondFactor, now: datetime) -> None:
    factor.failures += 1
    is_locked = factor.failures >= settings.LOGIN_FAILURES_MAX
    if is_locked:
        factor.locked_until = now + timedelta(seconds=settings.LOGIN_LOCK_S)
    factor.save(using="default")
    _record("second_factor.fail", factor.user)
    if is_locked:
        _record("second_factor.lock", factor.user)


def _matching_step(secret: str, code: str, *, after: int) -> int | None:
    """Return the time step of `code`; None if it is wrong, or if it or a later code was accepted before."""
    typed = "".join(code.split())
    if not (typed.isascii() and typed.isdigit() and len(typed) == DIGITS):
        return None
    totp, now = _totp(secret), int(time.time()) // STEP_S
    matching = [
        step
        for step in range(now - DRIFT, now + DRIFT + 1)
        if step > after and hmac.compare_digest(totp.generate(step * STEP_S), typed.encode())
    ]
    return matching[0] if matching else None


def _use_recovery_code(factor: SecondFactor, code: str, now: datetime) -> bool:
    unused = RecoveryCode.objects.using("default").filter(factor=factor, digest=_digest(code), used_at=None)
    return unused.update(used_at=now) == 1


def _new_recovery_codes(factor: SecondFactor) -> list[str]:
    codes = [
        base64.b32encode(secrets.token_bytes(RECOVERY_BYTES)).decode().lower() for _number in range(RECOVERY_CODES)
    ]
    RecoveryCode.objects.using("default").bulk_create(
        RecoveryCode(factor=factor, digest=_digest(code)) for code in codes
    )
    return ["-".join(code[place : place + 4] for place in range(0, len(code), 4)) for code in codes]


def _digest(code: str) -> str:
    typed = "".join(character for character in code.lower() if character.isalnum())
    return hashlib.sha256(typed.encode(errors="surrogatepass")).hexdigest()


def _totp(secret: str) -> TOTP:
    return TOTP(base64.b32decode(secret), DIGITS, SHA1(), STEP_S)


def _record(action: str, user: User) -> None:
    record(using="default", action=action, resource_type="user", resource_id=str(user.pk))
