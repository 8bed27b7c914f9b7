"""Admin pages for erasures: the list, and each certificate, to print or to download."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from audit.control.models import AuditArchive
from config.site.admin_base import ReadOnlyAdmin, as_badge, as_link
from tenants.erasure.presentation import certificate_sections
from tenants.erasure_ledger import canonical
from tenants.models import Erasure, ErasurePhase


class ErasureAdmin(ReadOnlyAdmin):
    audit_resource = "tenant"
    tenant_path = "tenant_id"
    list_display = ("shown_tenant", "requested_at", "erased_at", "shown_status", "phase", "user_id")
    list_filter = ("operation__status", "completed_at")
    list_select_related = ("operation",)
    search_fields = ("=tenant_id", "=identity", "=digest")
    search_help_text = gettext_lazy("Full tenant id, identity or sha256 of a certificate")

    def get_custom_urls(self) -> Any:
        return (("<uuid:object_id>/certificate/", "tenants_erasure_certificate", self.download),)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the certificate, or the progress of an erasure that has not finished."""
        if request.method not in ("GET", "HEAD") or not self.has_view_permission(request):
            raise PermissionDenied
        row = self.get_object(request, object_id)
        if row is None:
            raise Http404
        context = {
            **self.admin_site.each_context(request),
            "title": _("Erasure of tenant %(id)s") % {"id": row.tenant_id},
            "opts": self.opts,
            "original": row,
            "media": self.media,
            "row": row,
            "sections": certificate_sections(row.certificate) if row.certificate else [],
            "steps": _steps(row),
            "download_name": _file_name(row),
            **_links(row),
        }
        return TemplateResponse(request, "admin/erasure.html", {**context, **(extra_context or {})})

    def download(self, request: HttpRequest, object_id: UUID, model_admin: object) -> HttpResponse:
        """Send the certificate, byte for byte what its sha256 was computed from."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        row = Erasure.objects.filter(pk=object_id).first()
        if row is None or row.certificate is None:
            raise Http404
        return HttpResponse(
            canonical(row.certificate),
            content_type="application/json",
            headers={"Content-Disposition": f'attachment; filename="{_file_name(row)}"'},
        )

    @admin.display(description=gettext_lazy("tenant"), ordering="tenant_id")
    def shown_tenant(self, row: Erasure) -> str:
        return row.tenant_id

    @admin.display(description=gettext_lazy("requested at"), ordering="operation__started_at")
    def requested_at(self, row: Erasure) -> object:
        return row.operation.started_at

    @admin.display(description=gettext_lazy("erased at"), ordering="completed_at")
    def erased_at(self, row: Erasure) -> datetime | None:
        return row.completed_at

    @admin.display(description=gettext_lazy("status"), ordering="operation__status")
    def shown_status(self, row: Erasure) -> SafeString:
        return as_badge(_("erased"), "default") if row.completed_at else as_badge(_("not finished"), "warning")

    @admin.display(description=gettext_lazy("requested by"), ordering="operation__user_id")
    def user_id(self, row: Erasure) -> str:
        return row.operation.user_id


def erasure_link(operation_id: object, text: object) -> SafeString:
    """Return a link to the page of an erasure, on the control site."""
    return as_link(reverse("admin:tenants_erasure_change", args=[operation_id]), text)


def _file_name(row: Erasure) -> str:
    return f"erasure-{row.tenant_id}.json"


def _steps(row: Erasure) -> list[tuple[str, bool]]:
    """Return (step, whether it is done) for every step, in order."""
    done = ErasurePhase.values.index(row.phase)
    return [(str(phase.label), number <= done) for number, phase in enumerate(ErasurePhase)]


def _links(row: Erasure) -> dict[str, str]:
    """Return the URLs that the page links to; "" for a page that does not exist."""
    archive = AuditArchive.objects.filter(identity=row.identity).first()
    about = urlencode({"resource_type__exact": "tenant", "resource_id__exact": row.tenant_id})
    return {
        "download_url": reverse("admin:tenants_erasure_certificate", args=[row.pk]) if row.certificate else "",
        "archive_url": reverse("admin:audit_control_auditarchive_change", args=[archive.pk]) if archive else "",
        "audit_url": f"{reverse('admin:audit_control_controlauditlog_changelist')}?{about}",
    }
