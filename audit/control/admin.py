"""The control database's audit log, and the archived logs of erased tenants, as staff read them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from audit.admin import AuditEntryAdmin
from audit.control.models import ArchivedAuditLog, AuditArchive
from config.site.admin_base import ReadOnlyAdmin, as_badge, as_link

# The filter offers so many; whoever looks for another one searches for its id.
NEWEST = 20


class ControlAuditLogAdmin(AuditEntryAdmin):
    """Operators' commands and staff's changes of configuration."""


class ArchivedTenantFilter(admin.SimpleListFilter):
    """By erased tenant: from the archives, since asking the entries for the tenants in them would read them all."""

    title = gettext_lazy("tenant")
    parameter_name = "tenant"

    def lookups(self, request: HttpRequest, model_admin: object) -> list[tuple[str, str]]:
        newest = AuditArchive.objects.order_by("-archived_at").values_list("tenant_id", flat=True)[:NEWEST]
        asked = request.GET.get(self.parameter_name)
        return [(tenant_id, tenant_id) for tenant_id in sorted({*newest, *([asked] if asked else [])})]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ArchivedAuditLog]) -> QuerySet[ArchivedAuditLog]:
        return queryset.filter(tenant_id=self.value()) if self.value() else queryset


class ArchivedAuditLogAdmin(AuditEntryAdmin):
    """Entries of erased tenants, as they were."""

    list_display = ("tenant_id", *AuditEntryAdmin.list_display)
    list_filter = (ArchivedTenantFilter, *AuditEntryAdmin.list_filter)
    search_fields = ("=tenant_id", *AuditEntryAdmin.search_fields)
    search_help_text = gettext_lazy("A whole tenant id, actor, resource, resource id or operation")
    fields = ("tenant_id", "identity", *AuditEntryAdmin.fields)
    # It would hand out the control database's own log; `seo-gen audit export` hands out one tenant's.
    actions_list = ()


class AuditArchiveAdmin(ReadOnlyAdmin):
    """Which tenants' logs are archived. Whether one is still what it was, `seo-gen erasure verify` finds out."""

    audit_resource = "audit_archive"
    list_display = ("tenant_id", "entries", "archived_at", "shown_state")
    list_filter = ("archived_at",)
    search_fields = ("=tenant_id", "=identity")
    search_help_text = gettext_lazy("A whole tenant id or identity")
    fields = (
        ("tenant_id", "archived_at"),
        ("entries", "shown_state", "shown_entries"),
        ("identity", "chain_identity"),
        "head_hash",
        "digest",
    )

    @admin.display(description=gettext_lazy("chain when archived"))
    def shown_state(self, archive: AuditArchive) -> SafeString:
        if archive.first_bad is None:
            return as_badge(_("whole"), "success")
        return as_badge(_("broken at entry %(number)d") % {"number": archive.first_bad}, "danger")

    @admin.display(description=gettext_lazy("its entries"))
    def shown_entries(self, archive: AuditArchive) -> SafeString:
        page = reverse("admin:audit_control_archivedauditlog_changelist")
        query: dict[str, Any] = {ArchivedTenantFilter.parameter_name: archive.tenant_id}
        return as_link(f"{page}?{urlencode(query)}", _("Show"))
