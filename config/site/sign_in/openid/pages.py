"""The views that send a browser to the OpenID provider and handle its return."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.contrib.auth.models import User
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.crypto import constant_time_compare, salted_hmac
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _

from audit.log.actor import acting_as
from audit.log.entries import record
from config.site.sign_in.openid.accounts import account_of, identity_link
from config.site.sign_in.openid.errors import OpenIDRefused
from config.site.sign_in.openid.flow import authorization_url, returned_claims
from config.site.sign_in.openid.provider import is_configured
from config.site.sign_in.pending import sign_in_proceed
from config.site.sign_in.refusals import refuse

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite

LINK_SALT = "config.site.sign_in.openid.link"


def start_page(site: AdminSite, request: HttpRequest) -> HttpResponse:
    """Send the browser to the provider: to log in, or with `?link=…` to link the account that is logged in."""
    _require_configured()
    is_link = "link" in request.GET
    if is_link and not site.has_permission(request):
        return HttpResponseRedirect(reverse("admin:login"))
    if is_link and not constant_time_compare(request.GET["link"], link_token(request)):
        return HttpResponseRedirect(reverse("admin:account"))
    try:
        url = authorization_url(
            request,
            redirect_uri=_redirect_uri(request),
            next_url=_next_url(request),
            link_user_id=request.user.pk if is_link else None,
        )
    except OpenIDRefused as error:
        return _refused(site, request, error)
    return HttpResponseRedirect(url)


def link_token(request: HttpRequest) -> str:
    """Return the token for the account page's link to `start_page`.

    It keeps other sites from starting to link an account. The page has a link, not a form: browsers
    apply the CSP's form-action to redirects too, and the provider is another site.
    """
    return salted_hmac(LINK_SALT, request.session.session_key or "", algorithm="sha256").hexdigest()


def callback_page(site: AdminSite, request: HttpRequest) -> HttpResponse:
    """Log in the person whom the provider sends back, or ask for the second factor; link accounts if that was begun."""
    _require_configured()
    try:
        begun, claims = returned_claims(request, redirect_uri=_redirect_uri(request))
        if begun.link_user_id is not None:
            return _link(request, begun.link_user_id, issuer=str(claims["iss"]), subject=str(claims["sub"]))
        user = account_of(claims)
    except OpenIDRefused as error:
        _record_refusal(error)
        return _refused(site, request, error)
    return sign_in_proceed(request, user, method="openid", next_url=begun.next_url)


def _link(request: HttpRequest, user_id: int, *, issuer: str, subject: str) -> HttpResponse:
    if request.user.pk != user_id:
        raise OpenIDRefused(
            _("You are no longer logged in to the account that you wanted to link."),
            hint=_("Log in to that account, then link it again."),
            reason="logged out",
        )
    identity_link(user=User.objects.using("default").get(pk=user_id), issuer=issuer, subject=subject)
    messages.success(request, _("Your OpenID account is linked. You can log in with it from now on."))
    return HttpResponseRedirect(reverse("admin:account"))


def _refused(site: AdminSite, request: HttpRequest, error: OpenIDRefused) -> HttpResponse:
    """Show the refusal on the login page, or on the account page to someone who is logged in."""
    if not site.has_permission(request):
        return refuse(request, error)
    messages.error(request, str(error))
    return HttpResponseRedirect(reverse("admin:account"))


def _record_refusal(error: OpenIDRefused) -> None:
    # These are not recorded: anyone could fill the log with them. A provider's failure is logged instead.
    if error.reason in ("state", "too late", "provider"):
        return
    with transaction.atomic(using="default"), acting_as("openid"):
        record(
            using="default",
            action="login.fail",
            resource_type="user",
            resource_id="unknown",
            details={"method": "openid", "reason": error.reason},
        )


def _require_configured() -> None:
    if not is_configured():
        raise Http404


def _redirect_uri(request: HttpRequest) -> str:
    return request.build_absolute_uri(reverse("admin:sign_in_openid_callback"))


def _next_url(request: HttpRequest) -> str:
    """Return the page to open after the login: the requested one if it is on this host, or else the overview."""
    url = request.GET.get(REDIRECT_FIELD_NAME, "")
    is_ours = url_has_allowed_host_and_scheme(url, {request.get_host()}, require_https=request.is_secure())
    return url if is_ours else reverse("admin:index")
