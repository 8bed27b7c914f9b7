"""Pages for failures at addresses of their own, since no page of the product fails in these ways on request."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.core.exceptions import DisallowedHost, PermissionDenied
from django.core.handlers.wsgi import WSGIRequest
from django.db import OperationalError
from django.http import HttpResponse
from django.utils import translation

from config.site.frame.errors import bad_request, csrf_failure, forbidden, server_error

App = Callable[..., Iterable[bytes]]
PREFIX = "/error-page/"


def with_error_pages(app: App) -> App:
    """Return `app` with a page below `/error-page/` for each failure that `_page` lists."""

    def respond(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path: str = environ["PATH_INFO"]
        if not path.startswith(PREFIX):
            return app(environ, start_response)
        request = WSGIRequest(environ)
        with translation.override(translation.get_language_from_request(request)):
            response = _page(request, path.removeprefix(PREFIX).strip("/"))
        start_response(f"{response.status_code} {response.reason_phrase}", list(response.items()))
        return [response.content]

    return respond


def _page(request: WSGIRequest, name: str) -> HttpResponse:
    match name:
        case "400":
            return bad_request(request)
        case "host":
            return bad_request(request, DisallowedHost())
        case "403":
            return forbidden(request, PermissionDenied())
        case "csrf":
            return csrf_failure(request)
        case "503":
            try:
                raise OperationalError
            except OperationalError:
                return server_error(request)
    return server_error(request)
