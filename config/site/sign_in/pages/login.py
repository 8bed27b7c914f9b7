"""The pages of the login: password, second factor, and setting up a second factor, also after the login."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import segno
from django.conf import settings
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView
from django.forms import Form
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _

from audit.log.actor import acting_as
from config.site.sign_in.backends import is_password_offered
from config.site.sign_in.middleware import ENDED
from config.site.sign_in.openid.provider import is_configured
from config.site.sign_in.pages.forms import CodeForm, LoginForm, RecoveryCodeForm
from config.site.sign_in.pending import SECRET, Pending, pending_sign_in, sign_in_complete, sign_in_proceed
from config.site.sign_in.refusals import refusal_of
from config.site.sign_in.second_factor import (
    CodeRefused,
    Enrolled,
    factor_enrol,
    factor_of,
    factor_verify,
    new_secret,
    provisioning_uri,
)
from config.site.sign_in.sessions import EndReason
from tenants.credentials import decrypt, encrypt
from tenants.errors import EncryptionKeyError

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite


class _LoginView(LoginView):
    """Django's view, except that the second factor is asked for before there is a session."""

    def form_valid(self, form: Any) -> HttpResponse:
        return sign_in_proceed(self.request, form.get_user(), method="password", next_url=self.get_success_url())


def login_page(site: AdminSite, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
    """Ask for name and password, or link to the OpenID provider, or both."""
    next_url = request.POST.get(REDIRECT_FIELD_NAME, request.GET.get(REDIRECT_FIELD_NAME, ""))
    context = {
        **site.each_context(request),
        "title": _("Log in"),
        "subtitle": None,
        "app_path": request.get_full_path(),
        "username": request.user.get_username(),
        REDIRECT_FIELD_NAME: next_url,
        "next_quoted": quote(next_url, safe=""),
        "is_password_offered": is_password_offered(),
        "openid_name": settings.OIDC_NAME if is_configured() else "",
        "notice": _notice(request),
        "refusal": refusal_of(request),
        **(extra_context or {}),
    }
    view = _LoginView.as_view(
        extra_context=context, authentication_form=LoginForm, template_name="admin/sign_in/login.html"
    )
    return view(request)  # type: ignore[return-value]


def code_page(site: AdminSite, request: HttpRequest) -> HttpResponse:
    """Ask for the second factor, then log in."""
    found = pending_sign_in(request)
    if found is None:
        return _start_again()
    pending, user = found
    is_recovery = "recovery" in request.GET
    form: Form = (RecoveryCodeForm if is_recovery else CodeForm)(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            with acting_as(f"staff:{user.get_username()}"):
                factor_verify(user=user, code=form.cleaned_data["code"])
        except CodeRefused as error:
            form.add_error(None, str(error))
        else:
            return sign_in_complete(request, user, method=pending.method, next_url=pending.next_url, is_verified=True)
    context = {
        **_context(site, request, _("Second factor")),
        "form": form,
        "is_recovery": is_recovery,
        "cancel_url": reverse("admin:login"),
    }
    return TemplateResponse(request, "admin/sign_in/code.html", context)


def enrol_page(site: AdminSite, request: HttpRequest) -> HttpResponse:
    """Set up the authenticator app, for someone who is logged in or whose login is not complete without it."""
    pending, user = _enrolling(request)
    if user is None or settings.SECOND_FACTOR == "off":
        return _start_again()
    if factor_of(user) is not None:
        return HttpResponseRedirect(reverse("admin:login" if pending else "admin:account"))
    secret = _secret_of(request)
    form = CodeForm(request.POST if request.method == "POST" else None)
    form.fields["code"].widget.attrs.pop("autofocus", None)
    if request.method == "POST" and form.is_valid():
        try:
            with acting_as(f"staff:{user.get_username()}"):
                enrolled = factor_enrol(user=user, secret=secret, code=form.cleaned_data["code"])
        except CodeRefused as error:
            form.add_error(None, str(error))
        else:
            return _enrolled(site, request, user, pending, enrolled)
    context = {
        **_context(site, request, _("Set up a second factor")),
        "form": form,
        "qr_code": _qr_code(provisioning_uri(secret=secret, username=user.get_username())),
        "secret": " ".join(secret[place : place + 4] for place in range(0, len(secret), 4)),
        "is_required": pending is not None,
        "cancel_url": reverse("admin:login" if pending else "admin:account"),
    }
    return TemplateResponse(request, "admin/sign_in/enrol.html", context)


def recovery_codes_page(site: AdminSite, request: HttpRequest, codes: list[str], *, next_url: str) -> TemplateResponse:
    """Show recovery codes, which cannot be shown again."""
    context = {**_context(site, request, _("Recovery codes")), "codes": codes, "next_url": next_url}
    return TemplateResponse(request, "admin/sign_in/recovery_codes.html", context)


def _enrolled(
    site: AdminSite, request: HttpRequest, user: User, pending: Pending | None, enrolled: Enrolled
) -> HttpResponse:
    next_url = reverse("admin:account")
    if pending is not None:
        next_url = sign_in_complete(
            request, user, method=pending.method, next_url=pending.next_url, is_verified=True
        ).headers["Location"]
    else:
        request.session.pop(SECRET, None)
    return recovery_codes_page(site, request, enrolled.recovery_codes, next_url=next_url)


def _enrolling(request: HttpRequest) -> tuple[Pending | None, User | None]:
    found = pending_sign_in(request)
    if found is not None:
        return found
    return None, request.user if isinstance(request.user, User) and request.user.is_staff else None


def _secret_of(request: HttpRequest) -> str:
    """Return the new factor's secret, which the browser's session keeps encrypted; make one if there is none."""
    try:
        return decrypt(request.session[SECRET])
    except (KeyError, EncryptionKeyError):
        secret = new_secret()
        request.session[SECRET] = encrypt(secret)
        return secret


def _qr_code(text: str) -> SafeString:
    code = segno.make(text, error="m", micro=False)
    return mark_safe(code.svg_inline(scale=5, border=4, dark="#000", light="#fff", title=_("QR code"), omitsize=True))


def _notice(request: HttpRequest) -> str:
    """Return, only once, why this browser's session ended; "" if it did not, or if the form was sent."""
    if request.method != "GET" or ENDED not in request.session:
        return ""
    sentences = {
        EndReason.IDLE: _("You were logged out because you were inactive for a while."),
        EndReason.AGE: _("You were logged out because your session had reached its maximum age."),
        EndReason.SECOND_FACTOR: _(
            "You were logged out because your second factor was set up or removed, or because one is now required."
        ),
        EndReason.PASSWORD: _("You were logged out because your password was changed."),
        EndReason.RIGHTS: _("You were logged out because your rights were changed."),
        EndReason.DEACTIVATED: _("You were logged out because your account was deactivated."),
    }
    try:
        reason = EndReason(request.session.pop(ENDED))
    except ValueError:
        return ""
    return sentences.get(reason, _("Your session was ended. Log in again."))


def _start_again() -> HttpResponse:
    return HttpResponseRedirect(reverse("admin:login"))


def _context(site: AdminSite, request: HttpRequest, title: str) -> dict[str, Any]:
    return {**site.each_context(request), "title": title}
