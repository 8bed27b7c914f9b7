"""The error pages of both sites. Each says what is wrong; all but that of an unknown address link to the overviews.

They query no database and do not need the request's user, since either may be what failed.
"""

from __future__ import annotations

import sys
from http import HTTPStatus

from django.core.exceptions import DisallowedHost
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.translation import gettext as _

from tenants.routing.context import current_tenant_or_none
from tenants.routing.site_urls import control_url, tenant_url

FAVICON = "config/favicon.svg"
# A restarted or promoted server is back by then.
RETRY_AFTER_S = 10


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    if isinstance(exception, DisallowedHost):
        text = _(
            "This installation does not answer at this address. Use the address that you were given. If this one should"
            " work, ask an operator to add its host to ALLOWED_HOSTS."
        )
        # Links of this page would lead to the same address.
        return error_response(HTTPStatus.BAD_REQUEST, _("Unknown address"), text, has_links=False)
    title = _("This request cannot be understood")
    text = _("Your browser sent something incomplete, altered or too large. Go back, reload the page and try again.")
    return error_response(HTTPStatus.BAD_REQUEST, title, text)


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    text = _("Your account may not see or do this. If you need access, ask an administrator.")
    return error_response(HTTPStatus.FORBIDDEN, _("Not allowed"), text)


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    text = _(
        "This page does not exist, or your account may not see it. It may have been deleted, or the address may have"
        " been mistyped."
    )
    return error_response(HTTPStatus.NOT_FOUND, _("Page not found"), text)


def server_error(request: HttpRequest) -> HttpResponse:
    """Return the page for a server error (Django's `handler500`); 503 if the database is unavailable or too busy."""
    if not isinstance(sys.exc_info()[1], (OperationalError, InterfaceError)):
        text = _(
            "Something went wrong here. The error was logged. If you were changing something, check whether it was"
            " saved."
        )
        return error_response(HTTPStatus.INTERNAL_SERVER_ERROR, _("Server error"), text)
    # Even then: an earlier transaction of the request, or one whose confirmation was lost, may be committed.
    text = _(
        "The database is unavailable or too busy right now. Try again in a minute; if you were changing something,"
        " check first whether it was saved."
    )
    response = error_response(HTTPStatus.SERVICE_UNAVAILABLE, _("Not available at the moment"), text)
    response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Refuse a form without a valid token: usually one that was open while its user logged in again in another tab."""
    text = _(
        "Nothing was saved, because the server could not verify that this form came from this site. This usually"
        " happens when you have logged in again since opening the form. Go back, reload the page and send the form"
        " again. The browser must accept cookies from this site."
    )
    return error_response(HTTPStatus.FORBIDDEN, _("The form was not accepted"), text)


def error_response(
    status: HTTPStatus, title: str, text: str, hint: str = "", *, has_links: bool = True
) -> HttpResponse:
    """Return an error page, with links to the overviews if `has_links` is set."""
    tenant = current_tenant_or_none()
    context = {
        "status": status.value,
        "title": title,
        "text": text,
        "hint": hint,
        "favicon": FAVICON,
        "control_url": control_url("admin:index") if has_links else "",
        "tenant_url": tenant_url(tenant.id, "admin:index") if tenant else "",
        "tenant_id": tenant.id if tenant else "",
    }
    return HttpResponse(render_to_string("error.html", context), status=status)
