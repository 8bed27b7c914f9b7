"""The pages about sign-ins: one's own, and for administrators those of other people."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Max
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from audit.log.entries import record
from config.site.admin_base import as_badge, as_link
from config.site.sign_in.client_address import throttled_address
from config.site.sign_in.models import LinkedIdentity, SecondFactor, StaffSession
from config.site.sign_in.openid.pages import link_token
from config.site.sign_in.openid.provider import is_configured
from config.site.sign_in.pages.browser_names import browser_name
from config.site.sign_in.pages.forms import AnyCodeForm, PasswordAndCodeForm, locked
from config.site.sign_in.pages.login import recovery_codes_page
from config.site.sign_in.second_factor import (
    CodeRefused,
    factor_disable,
    factor_reset,
    recovery_codes_left,
    recovery_codes_replace,
)
from config.site.sign_in.sessions import EndReason, session_counts, session_id, sessions_end, sessions_of
from config.site.sign_in.throttle import attempt_begin, attempt_failed, attempt_succeeded, logins_unlock
from config.site.staff_rights import may_manage_user

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite

MANAGE = "sign_in.manage_sign_ins"


def account_page(site: AdminSite, request: HttpRequest) -> HttpResponse:
    """Show one's own sessions, second factor and linked OpenID account, and end sessions."""
    user = _own_account(request)
    here = reverse("admin:account")
    if request.method == "POST":
        current = session_id(request)
        rows = sessions_of(user).exclude(pk=current) if current else sessions_of(user)
        if "end" in request.POST:
            rows = rows.filter(pk=_uuid(request.POST["end"]))
        _say_ended(request, sessions_end(rows, reason=EndReason.OWNER))
        return HttpResponseRedirect(here)
    return _page(site, request, user, title=_("My account"), is_own=True)


def factor_off_page(site: AdminSite, request: HttpRequest) -> HttpResponse:
    """Turn off one's own second factor after checking a code and, if the account has a password, the password."""
    user = _own_account(request)
    if not _has_factor(user):
        return _without_factor(request)
    if not user.has_usable_password():
        return _factor_off(site, request, user)
    response: HttpResponse = _counting_wrong_passwords(
        request, user, "password", lambda: _factor_off(site, request, user)
    )
    return response


def _factor_off(site: AdminSite, request: HttpRequest, user: User) -> HttpResponse:
    form = PasswordAndCodeForm(user, request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            factor_disable(user=user, code=form.cleaned_data["code"])
        except CodeRefused as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, _("Your second factor is off."))
            return HttpResponseRedirect(reverse("admin:account"))
    is_required = settings.SECOND_FACTOR == "required"
    return _form_page(
        site,
        request,
        form,
        title=_("Replace the second factor") if is_required else _("Turn off the second factor"),
        submit=_("Log out and set up a new second factor") if is_required else _("Turn off"),
        explanation=_(
            "You will be logged out everywhere. The next login that needs a second factor asks you to set up a new one."
        )
        if is_required
        else _("You will be logged out everywhere else. Afterwards, you will log in without a second factor."),
    )


def new_codes_page(site: AdminSite, request: HttpRequest) -> HttpResponse:
    """Replace one's own recovery codes after checking a code, and show the new ones."""
    user = _own_account(request)
    if not _has_factor(user):
        return _without_factor(request)
    form = AnyCodeForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            codes = recovery_codes_replace(user=user, code=form.cleaned_data["code"])
        except CodeRefused as error:
            form.add_error(None, str(error))
        else:
            return recovery_codes_page(site, request, codes, next_url=reverse("admin:account"))
    return _form_page(
        site,
        request,
        form,
        title=_("New recovery codes"),
        submit=_("Show new codes"),
        explanation=_("Your old recovery codes will stop working."),
    )


def own_password_page(request: HttpRequest, change: Callable[[], Any]) -> Any:
    """Run Django's page; count wrong old passwords as failed logins, and record a change of the password."""
    user = _own_account(request)

    def change_and_record() -> Any:
        response = change()
        if request.method == "POST" and isinstance(response, HttpResponseRedirect):
            record(
                using="default",
                action="user.change",
                resource_type="user",
                resource_id=str(user.pk),
                details={"fields": ["password"]},
            )
        return response

    return _counting_wrong_passwords(request, user, "old_password", change_and_record)


def _counting_wrong_passwords(request: HttpRequest, user: User, field: str, page: Callable[[], Any]) -> Any:
    """Return the page's response; count an error of its password field as a failed login, and refuse if locked.

    Otherwise, someone at an unlocked computer could guess the password on this page.
    """
    if request.method != "POST":
        return page()
    # What the page changes, its audit entry and the count must share a transaction.
    with transaction.atomic(using="default"):
        attempt = attempt_begin(username=user.get_username(), address=throttled_address(request))
        if attempt.locked_until:
            messages.error(request, locked(attempt).messages[0])
            return HttpResponseRedirect(request.path)
        response = page()
        if field in _errors_of(response):
            attempt_failed(attempt, user_id=user.pk)
        else:
            attempt_succeeded(attempt)
    return response


def _errors_of(response: HttpResponse) -> Any:
    context = getattr(response, "context_data", None) or {}
    return context["form"].errors if "form" in context else {}


def sign_ins_page(site: AdminSite, request: HttpRequest) -> HttpResponse:
    """List how each member of staff signs in."""
    _require_manager(request)
    users = (
        User.objects.using("default")
        .filter(is_staff=True)
        .annotate(seen=Max("staff_sessions__seen_at"))
        .order_by("username")
    )
    counts = session_counts()
    with_factor = set(SecondFactor.objects.using("default").values_list("user_id", flat=True))
    linked = set(LinkedIdentity.objects.using("default").values_list("user_id", flat=True))
    rows = [
        [
            as_link(reverse("admin:sign_ins_user", args=[user.pk]), user.get_username()),
            _yes(user.is_active, _("active"), _("inactive")),
            _yes(user.pk in with_factor and settings.SECOND_FACTOR != "off", _("on"), _("off")),
            _("linked") if user.pk in linked else "-",
            counts.get(user.pk, 0),
            _moment(user.seen),
        ]
        for user in users
    ]
    headers = [_("User"), _("Account"), _("Second factor"), _("OpenID"), _("Sessions"), _("Last seen")]
    context = {
        **site.each_context(request),
        "title": _("Sign-ins"),
        "table": {"headers": headers, "rows": rows, "numbers": [headers.index(_("Sessions"))]},
    }
    return TemplateResponse(request, "admin/sign_in/list.html", context)


def sign_ins_user_page(site: AdminSite, request: HttpRequest, user_id: int) -> HttpResponse:
    """Show how one person signs in; end their sessions, reset their second factor, unlock logins, unlink OpenID."""
    _require_manager(request)
    user = get_object_or_404(User.objects.using("default").filter(is_staff=True), pk=user_id)
    if request.method == "POST":
        # One's own account has a page that asks for the code; no one resets their own factor without it.
        if user.pk == request.user.pk or not may_manage_user(request.user, user):
            raise PermissionDenied
        _manage(request, user)
        return HttpResponseRedirect(request.path)
    title = _("Sign-ins of %(user)s") % {"user": user.get_username()}
    return _page(site, request, user, title=title, is_own=False)


def _manage(request: HttpRequest, user: User) -> None:
    if "reset" in request.POST:
        if factor_reset(user=user):
            messages.success(request, _("The second factor of %(user)s was reset.") % {"user": user.get_username()})
        else:
            messages.info(request, _("%(username)s has no second factor.") % {"username": user.get_username()})
    elif "unlock" in request.POST:
        if logins_unlock(username=user.get_username()):
            messages.success(request, _("The login locks of %(user)s were removed.") % {"user": user.get_username()})
        else:
            messages.info(request, _("The name %(user)s was not locked.") % {"user": user.get_username()})
    elif "unlink" in request.POST:
        if _unlink(user):
            messages.success(request, _("The OpenID account of %(user)s was unlinked.") % {"user": user.get_username()})
        else:
            messages.info(request, _("No OpenID account was linked to %(user)s.") % {"user": user.get_username()})
    else:
        rows = sessions_of(user)
        if "end" in request.POST:
            rows = rows.filter(pk=_uuid(request.POST["end"]))
        _say_ended(request, sessions_end(rows, reason=EndReason.ADMINISTRATOR))


def _unlink(user: User) -> bool:
    """Remove the user's links; return whether there were any."""
    with transaction.atomic(using="default"):
        removed, _rows = LinkedIdentity.objects.using("default").filter(user=user).delete()
        if removed:
            record(using="default", action="openid.unlink", resource_type="user", resource_id=str(user.pk))
    return bool(removed)


def _page(site: AdminSite, request: HttpRequest, user: User, *, title: str, is_own: bool) -> TemplateResponse:
    factor = SecondFactor.objects.using("default").filter(user=user).first()
    current = session_id(request)
    sessions = list(sessions_of(user))
    context = {
        **site.each_context(request),
        "title": title,
        "account": user,
        "is_own": is_own,
        "is_self": user.pk == request.user.pk,
        "may_change": is_own or (user.pk != request.user.pk and may_manage_user(request.user, user)),
        "table": {
            "headers": [_("Browser"), _("IP address"), _("Logged in"), _("Last seen"), _("Action")],
            "rows": [_session_row(request, row, current) for row in sessions],
        },
        "has_others": any(row.pk != current for row in sessions),
        "factor": factor,
        "codes_left": recovery_codes_left(factor) if factor else 0,
        "second_factor": settings.SECOND_FACTOR,
        "openid_name": settings.OIDC_NAME if is_configured() else "",
        "link_token": link_token(request),
        "identities": LinkedIdentity.objects.using("default").filter(user=user).order_by("linked_at"),
    }
    return TemplateResponse(request, "admin/sign_in/account.html", context)


def _session_row(request: HttpRequest, row: StaffSession, current: UUID | None) -> list[Any]:
    is_current = row.pk == current
    end = as_badge(_("this session"), "success") if is_current else _end_button(request, row)
    return [
        browser_name(row.browser),
        row.address or "-",
        _moment(row.opened_at),
        _("now") if is_current else _moment(row.seen_at),
        end,
    ]


def _end_button(request: HttpRequest, row: StaffSession) -> str:
    label = _("End the session in %(browser)s") % {"browser": browser_name(row.browser)}
    return render_to_string("admin/sign_in/end_button.html", {"row": row, "label": label}, request)


def _form_page(
    site: AdminSite, request: HttpRequest, form: Any, *, title: str, submit: str, explanation: str
) -> TemplateResponse:
    context = {
        **site.each_context(request),
        "title": title,
        "form": form,
        "submit_text": submit,
        "explanation": explanation,
        "cancel_url": reverse("admin:account"),
    }
    return TemplateResponse(request, "admin/sign_in/form.html", context)


def _own_account(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # the site lets no one else in
    return request.user


def _has_factor(user: User) -> bool:
    return SecondFactor.objects.using("default").filter(user=user).exists()


def _without_factor(request: HttpRequest) -> HttpResponse:
    """Return a redirect to the account page: there is no second factor to turn off, and no recovery code to replace."""
    messages.info(request, _("Your account has no second factor."))
    return HttpResponseRedirect(reverse("admin:account"))


def _require_manager(request: HttpRequest) -> None:
    if not request.user.has_perm(MANAGE):
        raise PermissionDenied


def _say_ended(request: HttpRequest, count: int) -> None:
    if count:
        messages.success(request, _("Sessions ended: %(count)s.") % {"count": count})
    else:
        messages.info(request, _("There was no session left to end."))


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise Http404 from error


def _yes(is_so: bool, yes: str, no: str) -> str:
    return as_badge(yes, "success") if is_so else as_badge(no, "warning")


def _moment(moment: Any) -> str:
    return date_format(timezone.localtime(moment), "SHORT_DATETIME_FORMAT") if moment else "-"
