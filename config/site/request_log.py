"""Log one line for each successful request (status below 400); Django itself logs the others."""

import logging
import time
from collections.abc import Callable
from http import HTTPStatus

from django.http import HttpRequest, HttpResponseBase

from config.logs import request_fields

logger = logging.getLogger(__name__)


class RequestLogMiddleware:
    """Logs successful requests and their duration. It is the outermost middleware, so that it times the others too."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        started = time.monotonic()
        response = self.get_response(request)
        if response.status_code < HTTPStatus.BAD_REQUEST:
            duration_ms = round((time.monotonic() - started) * 1000)
            fields = {**request_fields(request), "status": response.status_code, "duration_ms": duration_ms}
            logger.info("request", extra={"action": "request", **fields})
        return response
