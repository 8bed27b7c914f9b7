"""Requests to a tenant's site: /t/<id>/… is served in that tenant's context, to staff who may see the tenant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect, StreamingHttpResponse
from django.shortcuts import render

from config.base.errors import SeoGenError, shown_on_page
from tenants.access.visible import sees_tenant, still_sees_tenant
from tenants.errors import (
    TenantConnectionsExhausted,
    TenantIdentityMismatch,
    TenantLocked,
    TenantNotActive,
    TenantUnfinished,
    TenantUnreachable,
    UnknownTenant,
)
from tenants.routing.context import tenant_context
from tenants.routing.site_urls import TENANT_URLCONF, control_url, script_prefix, split_path, tenant_prefix, tenant_url

STATUS_OF_ERROR: dict[type[SeoGenError], HTTPStatus] = {
    UnknownTenant: HTTPStatus.NOT_FOUND,
    TenantNotActive: HTTPStatus.FORBIDDEN,
    TenantUnfinished: HTTPStatus.SERVICE_UNAVAILABLE,
    TenantLocked: HTTPStatus.SERVICE_UNAVAILABLE,
    TenantUnreachable: HTTPStatus.SERVICE_UNAVAILABLE,
    TenantConnectionsExhausted: HTTPStatus.SERVICE_UNAVAILABLE,
    TenantIdentityMismatch: HTTPStatus.SERVICE_UNAVAILABLE,
}


class TenantMiddleware:
    """Serve /t/<id>/… from the tenant's URLs, with the tenant active until the last byte of the response.

    Anyone not logged in as staff is sent to the login page. Staff who may not see a tenant get the same page as for a
    tenant that does not exist, whatever its state. A `SeoGenError` becomes a page with its message, unless the response
    is already being streamed.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with shown_on_page():
            return self._answer(request)

    def _answer(self, request: HttpRequest) -> HttpResponseBase:
        found = split_path(request.path_info)
        if found is None:
            return self.get_response(request)
        if not (request.user.is_active and request.user.is_staff):
            return redirect_to_login(request.get_full_path(), control_url("admin:login"))
        tenant_id, path = found
        if not sees_tenant(request.user, tenant_id):
            return error_page(request, UnknownTenant(tenant_id))
        if path in ("", "/"):
            return HttpResponseRedirect(tenant_url(tenant_id, "admin:index"))
        try:
            return self._respond(request, tenant_id, path)
        except SeoGenError as error:
            return error_page(request, error)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponseBase | None:
        """Return an error page if the view raised a `SeoGenError`, such as `TenantUnreachable`; otherwise None."""
        return error_page(request, exception) if isinstance(exception, SeoGenError) else None

    def _respond(self, request: HttpRequest, tenant_id: str, path: str) -> HttpResponseBase:
        with _serving(tenant_id):
            request.path_info = path
            request.urlconf = TENANT_URLCONF
            response = self.get_response(request)
        if isinstance(response, StreamingHttpResponse) and not response.is_async:
            response.streaming_content = _streamed(tenant_id, request.user.pk, iter(response))
        return response


def error_page(request: HttpRequest, error: SeoGenError) -> HttpResponseBase:
    status = STATUS_OF_ERROR.get(type(error), HTTPStatus.BAD_REQUEST)
    context = {"error": error, "control_url": control_url("admin:index")}
    return render(request, "admin/refused.html", context, status=status)


@contextmanager
def _serving(tenant_id: str) -> Iterator[None]:
    with tenant_context(tenant_id), script_prefix(tenant_prefix(tenant_id)):
        yield


def _streamed(tenant_id: str, user_id: int | None, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield each chunk, made in the tenant's context; raise `UnknownTenant` once the user may not see the tenant.

    The context is entered for each chunk: a generator that kept a context variable set across a `yield` would also set
    it for whatever else the thread runs between two chunks.
    """
    while True:
        if not still_sees_tenant(user_id, tenant_id):
            raise UnknownTenant(tenant_id)
        with _serving(tenant_id):
            chunk = next(chunks, None)
        if chunk is None:
            return
        yield chunk
