"""What operators can do by command if people cannot sign in as usual."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from audit.log.entries import record
from config.base.errors import SeoGenError
from config.site.sign_in.models import PasswordPermit

MINUTES = 60
MINUTES_MAX = 24 * 60


class AccountUnsuitable(SeoGenError):
    """There is no such account, or it may not use a password, or not for that many minutes."""

    code = "account_unsuitable"


def account_named(username: str) -> User:
    """Return the account; raise `AccountUnsuitable` if there is none with this name."""
    user = User.objects.using("default").filter(username=username).first()
    if user is None:
        raise AccountUnsuitable(
            _("There is no account '%(username)s'.") % {"username": username},
            hint=_("`seo-gen staff list` shows the accounts of staff."),
        )
    return user


def password_permit(*, username: str, minutes: int) -> PasswordPermit:
    """Let a superuser use a password for some minutes although PASSWORD_LOGIN is off; return the permit.

    Raises `AccountUnsuitable` for anyone else, for an account that is inactive, not staff or without a password, and
    for too many or too few minutes.
    """
    user = account_named(username)
    if not (user.is_superuser and user.is_active and user.is_staff):
        raise AccountUnsuitable(
            _("%(username)s is not an active superuser with staff status.") % {"username": username},
            hint=_("Name an active superuser with staff status."),
        )
    if not user.has_usable_password():
        raise AccountUnsuitable(
            _("%(username)s has no password.") % {"username": username},
            hint=_("Set a password with `manage.py changepassword USERNAME`."),
        )
    if not 1 <= minutes <= MINUTES_MAX:
        raise AccountUnsuitable(
            _("Login with a password can be allowed for at least one minute and at most one day."),
            hint=_("Pass a number from 1 to 1440 with --minutes."),
        )
    with transaction.atomic(using="default"):
        permit, _made = PasswordPermit.objects.using("default").update_or_create(
            user=user, defaults={"expires_at": timezone.now() + timedelta(minutes=minutes)}
        )
        record(
            using="default",
            action="login.permit",
            resource_type="user",
            resource_id=str(user.pk),
            details={"minutes": minutes},
        )
    return permit
