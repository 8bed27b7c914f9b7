"""What both sites answer where a database cannot be used: a page of its own, which asks no database."""

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
    """Django's `handler500`, which is called while the error is handled: a database that is away is no defect."""
    if not isinstance(sys.exc_info()[1], (OperationalError, InterfaceError)):
        return defaults.server_error(request)
    # Without the request: its session, its user and the menus are in the database.
    page = render_to_string("unavailable.html")
    headers = {"Retry-After": str(RETRY_AFTER_S)}
    return HttpResponse(page, status=HTTPStatus.SERVICE_UNAVAILABLE, headers=headers)
