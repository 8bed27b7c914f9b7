"""The pages for signing in, as part of the control site."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, URLResolver, path, reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache

from config.site.sign_in.openid import pages as openid_pages
from config.site.sign_in.pages import account, login
from tenants.routing.site_urls import control_url

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite
else:
    AdminSite = object


def account_links(request: HttpRequest) -> list[dict[str, str]]:
    """Return the entries of the menu under the person's name, on both sites."""
    links = [{"title": _("My account"), "link": control_url("admin:account")}]
    if request.user.is_authenticated and request.user.has_usable_password():
        links.append({"title": _("Change password"), "link": control_url("admin:password_change")})
    return links


class SignInPages(AdminSite):
    """The sign-in pages of the control site. A tenant's site redirects to them."""

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if request.method == "GET" and self.has_permission(request):
            return HttpResponseRedirect(reverse("admin:index"))
        return login.login_page(self, request, extra_context)

    def get_urls(self) -> list[URLPattern | URLResolver]:
        return [
            path("sign-in/code/", self._open(login.code_page), name="sign_in_code"),
            path("sign-in/set-up/", self._open(login.enrol_page), name="sign_in_enrol"),
            path("sign-in/openid/", self._open(openid_pages.start_page), name="sign_in_openid"),
            path("sign-in/openid/callback/", self._open(openid_pages.callback_page), name="sign_in_openid_callback"),
            path("account/", self._staff(account.account_page), name="account"),
            path("account/second-factor/off/", self._staff(account.factor_off_page), name="second_factor_off"),
            path("account/second-factor/codes/", self._staff(account.new_codes_page), name="second_factor_codes"),
            path("sign-ins/", self._staff(account.sign_ins_page), name="sign_ins"),
            path("sign-ins/<int:user_id>/", self._staff(account.sign_ins_user_page), name="sign_ins_user"),
            *super().get_urls(),
        ]

    def _open(self, page: Any) -> Any:
        """Return the view of a page that needs no login."""

        def view(request: HttpRequest) -> HttpResponse:
            request.current_app = self.name
            response: HttpResponse = page(self, request)
            return response

        return never_cache(view)

    def _staff(self, page: Any) -> Any:
        """Return the view of a page for those who are logged in."""

        def view(request: HttpRequest, **arguments: Any) -> HttpResponse:
            response: HttpResponse = page(self, request, **arguments)
            return response

        return self.admin_view(view)
