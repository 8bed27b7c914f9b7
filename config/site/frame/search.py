"""The search of both sites: menu entries, tenants, runs and operations that a person may see.

Nothing is cached, since a cache would be shared between tenants. The control site finds runs by their id, because the
control database holds no keyword; a tenant's site finds its own runs by keyword too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from config.base.databases import CONTROL
from runs.models import Run, RunStatus
from runs.summaries.models import RunSummary
from tenants.access.visible import tenants_visible
from tenants.models import Tenant, TenantOperation, TenantStatus
from tenants.presentation import operation_name
from tenants.routing.context import current_tenant_or_none
from tenants.routing.site_urls import TENANT_URLCONF, control_url, split_path, tenant_url

GROUP_MAX = 8
TENANTS_MAX = 30
QUERY_MAX = 100
# The first characters of a run's id; fewer would find too many.
ID_START = re.compile(r"[0-9a-f]{4}[0-9a-f-]{0,32}")
ID_LENGTH = 32
# A list, which every tenant's site has: switching tenants keeps it open. A single row exists on one site only.
LIST_PAGE = re.compile(r"/admin/(?P<app>\w+)/(?P<model>\w+)/")


@dataclass(frozen=True)
class Hit:
    text: str
    # "" for something that has no page now.
    url: str
    detail: str = ""
    icon: str = ""


@dataclass(frozen=True)
class Group:
    title: str
    hits: list[Hit] = field(default_factory=list)


def search(request: HttpRequest, entries: list[Hit]) -> list[Group]:
    """Return what the request's `q` finds, in groups. `entries` are those of the menu.

    If `scope` is "tenants", return only the tenants found; if `q` is empty, return all entries; otherwise, leave out
    empty groups.
    """
    query = request.GET.get("q", "").strip()[:QUERY_MAX]
    if request.GET.get("scope") == "tenants":
        return [Group(_("Tenants"), tenants_found(request, query, TENANTS_MAX))]
    if not query:
        return [Group(_("Pages"), entries)]
    wanted = query.casefold()
    groups = [
        Group(_("Pages"), [hit for hit in entries if wanted in hit.text.casefold()][:GROUP_MAX]),
        Group(_("Tenants"), tenants_found(request, query, GROUP_MAX)),
        Group(_("Runs"), _runs_found(request, query)),
        Group(_("Operations"), _operations_found(request, query)),
    ]
    return [group for group in groups if group.hits]


def tenants_found(request: HttpRequest, query: str, most: int) -> list[Hit]:
    """Return at most `most` visible tenants whose id or name contains the query; first, those where one starts with it.

    An active tenant links to its own list of the kind that was open when the search began, or else to its overview; any
    other, to its page on the control site if the person may see that.
    """
    visible = tenants_visible(request.user).select_related(None).only("id", "name", "status")
    found = visible.filter(Q(pk__icontains=query) | Q(name__icontains=query)) if query else visible
    starting = found.filter(Q(pk__istartswith=query) | Q(name__istartswith=query)).order_by("name", "pk")[:most]
    rows = list(starting)
    if len(rows) < most:
        seen = [tenant.pk for tenant in rows]
        rows += found.exclude(pk__in=seen).order_by("name", "pk")[: most - len(rows)]
    page = _page_to_keep(request.GET.get("from", ""))
    may_manage = request.user.has_perm("tenants.view_tenant")
    return [_tenant_hit(tenant, page, may_manage) for tenant in rows]


def _tenant_hit(tenant: Tenant, page: str, may_manage: bool) -> Hit:
    if tenant.status == TenantStatus.ACTIVE:
        return Hit(tenant.name, tenant_url(tenant.pk, page), tenant.pk, "domain")
    # It has no site now; its page on the control site says why, and can resume it if it is suspended.
    url = control_url("admin:tenants_tenant_change", tenant.pk) if may_manage else ""
    return Hit(tenant.name, url, f"{tenant.pk} · {TenantStatus(tenant.status).label}", "domain_disabled")


def _page_to_keep(path: str) -> str:
    """Return the URL name of the list that `path`, on a tenant's site, belongs to; otherwise that of the overview."""
    found = split_path(path)
    listed = LIST_PAGE.match(found[1]) if found else None
    if listed is None:
        return "admin:index"
    name = f"{listed['app']}_{listed['model']}_changelist"
    return f"admin:{name}" if _exists(name) else "admin:index"


def _exists(name: str) -> bool:
    try:
        reverse(f"admin:{name}", urlconf=TENANT_URLCONF)
    except NoReverseMatch:
        return False
    return True


def _runs_found(request: HttpRequest, query: str) -> list[Hit]:
    if not request.user.has_perm("runs.view_run"):
        return []
    ids = _id_range(query)
    tenant = current_tenant_or_none()
    if tenant is not None:
        return _own_runs(query, ids)
    if ids is None:
        return []
    summaries = RunSummary.objects.using(CONTROL).filter(
        tenant__in=tenants_visible(request.user), run_id__gte=ids[0], run_id__lte=ids[1]
    )
    return [
        Hit(
            str(run.run_id),
            tenant_url(run.tenant_id, "admin:runs_run_change", run.run_id),
            f"{run.tenant_id} · {RunStatus(run.status).label}",
            "play_circle",
        )
        for run in summaries.order_by("-updated_at")[:GROUP_MAX]
    ]


def _own_runs(query: str, ids: tuple[UUID, UUID] | None) -> list[Hit]:
    """Return the active tenant's newest runs whose keyword contains the query, or whose id begins with it."""
    wanted = Q(config__keyword__icontains=query)
    if ids is not None:
        wanted |= Q(pk__gte=ids[0], pk__lte=ids[1])
    runs: QuerySet[Run] = Run.objects.filter(wanted).order_by("-created_at")
    return [
        Hit(
            str(run.config.get("keyword") or run.pk) if isinstance(run.config, dict) else str(run.pk),
            reverse("admin:runs_run_change", args=[run.pk]),
            f"{str(run.pk)[:8]} · {RunStatus(run.status).label}",
            "play_circle",
        )
        for run in runs[:GROUP_MAX]
    ]


def _operations_found(request: HttpRequest, query: str) -> list[Hit]:
    """Return the newest operations whose tenant id, kind or own id matches the query."""
    if not request.user.has_perm("tenants.view_tenant"):
        return []
    ids = _id_range(query)
    wanted = Q(tenant_id__icontains=query) | Q(kind__iexact=query)
    if ids is not None:
        wanted |= Q(pk__gte=ids[0], pk__lte=ids[1])
    operations = TenantOperation.objects.using(CONTROL).filter(
        wanted, tenant_id__in=tenants_visible(request.user).values("pk")
    )
    return [_operation_hit(operation) for operation in operations.order_by("-started_at")[:GROUP_MAX]]


def _operation_hit(operation: TenantOperation) -> Hit:
    started = f"{localtime(operation.started_at):%Y-%m-%d}"
    detail = f"{operation.tenant_id} · {operation.get_status_display()} · {started}"
    url = control_url("admin:tenants_tenant_change", operation.tenant_id)
    return Hit(operation_name(operation.kind), url, detail, "manufacturing")


def _id_range(query: str) -> tuple[UUID, UUID] | None:
    """Return the lowest and the highest id that begin with the query; None if it is too short or cannot begin an id."""
    if not ID_START.fullmatch(query.lower()):
        return None
    start = query.lower().replace("-", "")[:ID_LENGTH]
    return UUID(start.ljust(ID_LENGTH, "0")), UUID(start.ljust(ID_LENGTH, "f"))


def context_of(request: HttpRequest, entries: list[Hit]) -> dict[str, Any]:
    return {"groups": search(request, entries), "query": request.GET.get("q", "").strip()[:QUERY_MAX]}
