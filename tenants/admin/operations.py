"""Admin pages for the operations that staff requested: the list, and the progress and outcome of each."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from config.base.errors import SeoGenError
from config.base.times import lasting, to_second
from config.site.admin_base import OWN_SCOPE, ReadOnlyAdmin, as_badge, as_link
from tenants.access.visible import sees_all_tenants, tenants_visible
from tenants.models import ABOUT_SEVERAL, OperationRequest, RequestKind, RequestStatus
from tenants.requests.prompt_copies import all_visible
from tenants.requests.request import may, request_recover
from tenants.requests.step_names import step_name, step_title
from tenants.routing.site_urls import control_url, tenant_url
from tenants.selectors import tenants_existing

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

REQUEST_COLORS = {
    RequestStatus.REQUESTED: "default",
    RequestStatus.RUNNING: "info",
    RequestStatus.DONE: "success",
    RequestStatus.FAILED: "danger",
    RequestStatus.REFUSED: "warning",
    RequestStatus.UNFINISHED: "danger",
}
# If no worker has taken a request for this long, its page says so.
NO_WORKER = timedelta(seconds=30)
# If there are more tenants than these, their number is shown.
NAMED_MAX = 20


class OperationRequestAdmin(ReadOnlyAdmin):
    # `requests_visible`: those for all tenants, too, if a person sees all of them.
    tenant_path = OWN_SCOPE
    audit_resource = "tenant"
    list_display = ("requested_at", "shown_kind", "shown_tenant", "shown_status", "progress", "took", "requester")
    list_filter = ("status", "kind", "requested_at")
    search_fields = ("=tenant_id", "=requested_by", "=id")
    search_help_text = gettext_lazy("Full tenant id, operation id or requester, such as staff:ann")

    def get_queryset(self, request: HttpRequest) -> QuerySet[OperationRequest]:
        found: QuerySet[OperationRequest] = super().get_queryset(request)
        return requests_visible(request, found)

    def get_custom_urls(self) -> Any:
        return (
            ("<uuid:request_id>/progress/", "tenants_operationrequest_progress", self.progress_view),
            ("<uuid:request_id>/recover/", "tenants_operationrequest_recover", self.recover_view),
        )

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if request.method not in ("GET", "HEAD") or not self.has_view_permission(request):
            raise PermissionDenied
        row = self.get_object(request, object_id)
        if row is None:
            raise Http404
        context = {
            **self.admin_site.each_context(request),
            "title": title_of(row),
            "opts": self.opts,
            "original": row,
            "media": self.media,
            **self._context(request, row),
        }
        return TemplateResponse(request, "admin/operation.html", {**context, **(extra_context or {})})

    def progress_view(self, request: HttpRequest, request_id: UUID, model_admin: object) -> HttpResponse:
        """Return the part of the page that changes; the page asks for it until the operation is over."""
        row = self._row(request, request_id)
        return TemplateResponse(request, "admin/operation_progress.html", self._context(request, row))

    def recover_view(self, request: HttpRequest, request_id: UUID, model_admin: object) -> HttpResponse:
        row = self._row(request, request_id)
        if request.method != "POST" or not may(request.user, RequestKind(row.kind), row.tenant_id):
            raise PermissionDenied
        try:
            request_recover(user=request.user, request_id=row.pk)
        except SeoGenError as error:
            messages.error(request, str(error))
        return HttpResponseRedirect(operation_url(row))

    @admin.display(description=gettext_lazy("operation"), ordering="kind")
    def shown_kind(self, row: OperationRequest) -> str:
        return row.title

    @admin.display(description=gettext_lazy("tenant"), ordering="tenant_id")
    def shown_tenant(self, row: OperationRequest) -> str:
        return row.tenant_id or _("all")

    @admin.display(description=gettext_lazy("status"), ordering="status")
    def shown_status(self, row: OperationRequest) -> SafeString:
        return status_badge(row)

    @admin.display(description=gettext_lazy("phase"))
    def progress(self, row: OperationRequest) -> str | None:
        return step_name(row.step) if row.status == RequestStatus.RUNNING and row.step else None

    @admin.display(description=gettext_lazy("requested by"), ordering="requested_by")
    def requester(self, row: OperationRequest) -> str:
        return row.requested_by

    @admin.display(description=gettext_lazy("duration"))
    def took(self, row: OperationRequest) -> str | None:
        return duration_of(row)

    def _row(self, request: HttpRequest, request_id: UUID) -> OperationRequest:
        row = self.get_queryset(request).filter(pk=request_id).first()
        if not self.has_view_permission(request) or row is None:
            raise Http404
        return row

    def _context(self, request: HttpRequest, row: OperationRequest) -> dict[str, Any]:
        return {
            "row": row,
            "badge": status_badge(row),
            "kind": row.title,
            "step": step_name(row.step) if row.step else "",
            "percent": percent_of(row),
            "duration": duration_of(row),
            "counts_tenants": row.kind in (RequestKind.MIGRATE, *ABOUT_SEVERAL),
            "report_url": report_url(row),
            "is_preview": bool(row.arguments.get("dry_run")),
            "facts": facts_of(row),
            "links": links_of(request, row),
            "problems": row.error.splitlines(),
            "no_worker": row.status == RequestStatus.REQUESTED and timezone.now() - row.requested_at > NO_WORKER,
            "progress_url": reverse("admin:tenants_operationrequest_progress", args=[row.pk]),
            "recover_url": reverse("admin:tenants_operationrequest_recover", args=[row.pk])
            if row.status == RequestStatus.UNFINISHED and may(request.user, RequestKind(row.kind), row.tenant_id)
            else "",
        }


def requests_visible(request: HttpRequest, found: QuerySet[OperationRequest]) -> QuerySet[OperationRequest]:
    """Return the requests that the person may see: all, if they see all tenants.

    Otherwise those that match `about_visible`; a request that changes several tenants is left out
    unless the person may see each of them.
    """
    if sees_all_tenants(request.user):
        return found
    return found.filter(about_visible(request.user)).filter(all_visible(tenants_visible(request.user)))


def about_visible(user: User | AnonymousUser) -> Q:
    """Return the condition for rows about tenants that `user` may see, and for `user`'s requests for deleted tenants.

    So a person who deletes a tenant can read how that ended, but no one reads about an existing tenant after losing the
    role for it.
    """
    own_and_gone = Q(requester_id=user.pk) & ~Q(tenant_id="") & ~Q(tenant_id__in=tenants_existing().values("pk"))
    return Q(tenant_id__in=tenants_visible(user).values("pk")) | own_and_gone


def operation_url(row: OperationRequest) -> str:
    """Return the URL of the operation's page on the control site; works on either site."""
    return control_url("admin:tenants_operationrequest_change", row.pk)


def title_of(row: OperationRequest) -> str:
    if not row.tenant_id:
        return row.title
    return _("%(operation)s: tenant %(id)s") % {"operation": row.title, "id": row.tenant_id}


def status_badge(row: OperationRequest) -> SafeString:
    return as_badge(row.get_status_display(), REQUEST_COLORS[RequestStatus(row.status)])


def percent_of(row: OperationRequest) -> int:
    if row.status == RequestStatus.DONE:
        return 100
    return min(100, round(100 * row.done / row.total)) if row.total else 0


def duration_of(row: OperationRequest) -> str | None:
    """Return how long the operation has been running, or ran, such as "12.0 s"; None if not begun, or refused."""
    if row.started_at is None or row.status == RequestStatus.REFUSED:
        return None
    return lasting(((row.finished_at or timezone.now()) - row.started_at).total_seconds())


def facts_of(row: OperationRequest) -> list[tuple[str, str]]:
    """Return (label, text) for each known fact about what was requested and what resulted."""
    given, result = row.arguments, row.result or {}
    facts = [
        (_("Point in time"), _point(given.get("to_time"))),
        (_("New tenant"), given.get("new_id")),
        (_("File"), given.get("output")),
        (_("With files"), _yes_or_no(given.get("with_storage"))),
        (_("Runs in progress"), _("allowed") if given.get("stop_runs") else None),
        (_("Prompts"), _chosen(row)),
        (_("Target tenants"), _targets(row)),
        (_("Reason"), row.reason),
        (_("Tenants checked"), result.get("tenants")),
        (_("Tenants with changes"), result.get("changed")),
        (_("Tenants to migrate") if given.get("dry_run") else _("Tenants migrated"), result.get("migrated")),
        (_("Rows loaded"), result.get("rows")),
        (_("Missing files"), result.get("missing_files") or None),
    ]
    timing = result.get("timing_s") or {}
    facts += [(step_title(step), lasting(seconds)) for step, seconds in timing.items()]
    return [(label, str(text)) for label, text in facts if text not in (None, "")]


def _chosen(row: OperationRequest) -> str | None:
    if row.kind not in ABOUT_SEVERAL:
        return None
    return row.arguments["text"] or _("the active versions of all steps")


def _targets(row: OperationRequest) -> str | None:
    if row.kind not in ABOUT_SEVERAL:
        return None
    tenants = row.arguments["tenants"]
    if tenants is None:
        return _("all tenants")
    if len(tenants) <= NAMED_MAX:
        return ", ".join(tenants)
    return ngettext("%(n)d tenant", "%(n)d tenants", len(tenants)) % {"n": len(tenants)}


def report_url(row: OperationRequest) -> str:
    """Return the URL of the report of a finished copy of prompts, its preview or its undo; "" for any other request.

    The report shows prompts of tenants, so the app `prompts` serves it, on the site of the request's tenant.
    """
    if row.kind not in ABOUT_SEVERAL or row.status != RequestStatus.DONE:
        return ""
    return tenant_url(row.tenant_id, "admin:prompts_copy_report", row.pk)


def _point(text: str | None) -> str | None:
    return to_second(datetime.fromisoformat(text)) if text else None


def _yes_or_no(value: object) -> str | None:
    return None if value is None else _("yes") if value else _("no")


def links_of(request: HttpRequest, row: OperationRequest) -> list[SafeString]:
    """Return links to what the operation made and to what it concerns, if the person may view pages of that kind."""
    result = row.result or {}
    pages = [
        ("backup", "backup", _("Export") if row.kind == RequestKind.EXPORT else _("Backup")),
        ("operation", "restore", _("Report of the restore")),
        ("erasure", "erasure", _("Certificate of erasure")),
        ("batch", "migrationbatch", _("Batch") if row.kind in ABOUT_SEVERAL else _("Report of the migration")),
        ("tenant", "tenant", _("New tenant")),
    ]
    links = [
        as_link(reverse(f"admin:tenants_{model}_change", args=[result[key]]), text)
        for key, model, text in pages
        if key in result and request.user.has_perm(f"tenants.view_{model}")
    ]
    if row.arguments.get("backup") and request.user.has_perm("tenants.view_backup"):
        links.append(
            as_link(reverse("admin:tenants_backup_change", args=[row.arguments["backup"]]), _("Source backup"))
        )
    if row.tenant_id and request.user.has_perm("tenants.view_tenant"):
        links.append(as_link(reverse("admin:tenants_tenant_change", args=[row.tenant_id]), _("Tenant")))
    if request.user.has_perm("audit_control.view_controlauditlog"):
        page = reverse("admin:audit_control_controlauditlog_changelist")
        links.append(as_link(f"{page}?{urlencode({'operation_id__exact': str(row.pk)})}", _("Audit log")))
    return links
