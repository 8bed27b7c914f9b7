"""Limit the rows, pages and actions of the control site to a person's tenants, in one place for all requests."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from django.contrib.admin.utils import unquote
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponseBase
from django.template.response import SimpleTemplateResponse

from config.site.admin_base import NO_TENANT, OWN_SCOPE, StaffAdmin
from tenants.access.about import about_tenant
from tenants.access.grants import grants_of

# The arguments of URLs that do not name a row.
NO_ROW = frozenset({"form_url", "extra_context", "model_admin"})


class Scoped(StaffAdmin):
    """Limit a model's rows to those of tenants for which the person may view or change the model.

    If the `tenant_path` is `NO_TENANT` or `OWN_SCOPE`, nothing is limited here.
    """

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request)
        if self.tenant_path in (NO_TENANT, OWN_SCOPE):
            return rows
        grants = grants_of(request.user)
        if grants is None:
            return rows.none()
        ids = grants.tenant_ids(
            *(f"{self.opts.app_label}.{verb}_{self.opts.model_name}" for verb in ("view", "change"))
        )
        return rows if ids is None else rows.filter(self.of_tenants(ids))


def scoped_view(view: Callable[..., Any], request: HttpRequest, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a view of the control site; raise `Http404` if its URL names a row that does not exist or is not visible.

    While the view runs and its page is rendered, permissions are those for the tenant of that row.
    """
    admin = model_admin_of(view, kwargs)
    row = _row_of(admin, request, kwargs) if admin is not None else None
    with about_tenant(admin.tenant_of(row)) if admin is not None and row is not None else nullcontext():
        return rendered(view(request, *args, **kwargs))


def model_admin_of(view: Callable[..., Any], kwargs: dict[str, Any]) -> StaffAdmin | None:
    """Return the model admin that a view belongs to; None for a view of the site itself."""
    for candidate in (getattr(view, "__self__", None), kwargs.get("model_admin")):
        if isinstance(candidate, StaffAdmin):
            return candidate
    return None


def rendered(response: HttpResponseBase) -> HttpResponseBase:
    """Render a page now; later, its template would check permissions outside the tenant's context."""
    return response.render() if isinstance(response, SimpleTemplateResponse) else response


def _row_of(admin: StaffAdmin, request: HttpRequest, kwargs: dict[str, Any]) -> Model | None:
    """Return the row that a URL names; None if it names none, or if the rows are not limited by tenant here.

    Raises `Http404` if there is no such row, or the person may not see it.
    """
    named = {name: value for name, value in kwargs.items() if name not in NO_ROW and value is not None}
    if admin.tenant_path in (NO_TENANT, OWN_SCOPE) or not named:
        return None
    # A row that a URL names in another way would not be checked.
    assert list(named) == ["object_id"], f"{admin}: the URL must name its row as object_id, not {list(named)}"
    row: Model | None = admin.get_object(request, unquote(str(named["object_id"])))
    if row is None:
        raise Http404
    return row
