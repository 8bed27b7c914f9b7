"""The response of both sites if a database is unavailable: a page that queries no database."""

from __future__ import annotations

import sys
from http import HTTPStatus

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.views import defaults

# A restarted or promoted server is back by then.
RETRY_AFTER_S = 10


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's `handler500`, called while the error is handled: an unavailable database is not a bug."""
    if not isinstance(sys.exc_info()[1], (OperationalError, InterfaceError)):
        return defaults.server_error(request)
    # Rendered without the request, since session, user and menus are in the database.
    page = render_to_string("unavailable.html")
    headers = {"Retry-After": str(RETRY_AFTER_S)}
    return HttpResponse(page, status=HTTPStatus.SERVICE_UNAVAILABLE, headers=headers)
