"""The forms for signing in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextInputWidget

from config.site.sign_in.backends import attempt_of, may_use_password
from config.site.sign_in.throttle import Attempt, attempt_succeeded

if TYPE_CHECKING:
    from django.contrib.admin.forms import AdminAuthenticationForm as AuthenticationForm
else:
    from unfold.forms import AuthenticationForm


class LoginForm(AuthenticationForm):
    """Name and password. Its errors say if logins are locked or passwords are not accepted."""

    def clean(self) -> dict[str, Any]:
        try:
            cleaned = super().clean()
        except ValidationError as error:
            raise self._explained(error) from error
        attempt = attempt_of(self.request)
        if attempt is not None:
            attempt_succeeded(attempt)
        return cleaned

    def _explained(self, error: ValidationError) -> ValidationError:
        attempt = attempt_of(self.request)
        if attempt is None:
            return error
        if attempt.locked_until:
            return locked(attempt)
        if not may_use_password(attempt.username):
            return ValidationError(
                _("You cannot log in with a password. Log in with your company account."), code="password_off"
            )
        return error


class CodeForm(forms.Form):
    """A code from the authenticator app."""

    code = forms.CharField(
        label=_("Six-digit code"),
        max_length=20,
        widget=UnfoldAdminTextInputWidget(
            attrs={
                "autocomplete": "one-time-code",
                "inputmode": "numeric",
                "pattern": "[0-9 ]*",
                "autofocus": "",
                "class": "tracking-widest",
            }
        ),
    )


class RecoveryCodeForm(forms.Form):
    code = forms.CharField(
        label=_("Recovery code"),
        max_length=40,
        widget=UnfoldAdminTextInputWidget(
            attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false", "autofocus": ""}
        ),
    )


class AnyCodeForm(forms.Form):
    """A code from the authenticator app, or a recovery code."""

    code = forms.CharField(
        label=_("Code from the app, or a recovery code"),
        max_length=40,
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "one-time-code", "autocapitalize": "none"}),
    )


class PasswordAndCodeForm(AnyCodeForm):
    """The password and a code, so that an unlocked computer is not enough to turn the second factor off.

    An account without a password needs only the code.
    """

    password = forms.CharField(
        label=_("Password"),
        strip=False,
        max_length=4096,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "current-password"}),
    )
    field_order = ["password", "code"]

    def __init__(self, user: User, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._user = user
        if not user.has_usable_password():
            del self.fields["password"]

    def clean_password(self) -> str:
        password: str = self.cleaned_data["password"]
        if not self._user.check_password(password):
            raise ValidationError(_("This is not your password."), code="password_wrong")
        return password


def locked(attempt: Attempt) -> ValidationError:
    minutes = attempt.minutes_locked
    message = ngettext(
        "Too many failed attempts. Wait %(count)d minute, then try again.",
        "Too many failed attempts. Wait %(count)d minutes, then try again.",
        minutes,
    )
    return ValidationError(message % {"count": minutes}, code="locked")
