"""Read-only admin pages for the control database's audit log, the archived logs of erased tenants, and the anchors."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db import DEFAULT_DB_ALIAS
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.contrib.filters.admin import RangeDateTimeFilter

from audit.admin import AuditEntryAdmin, log_state
from audit.control.models import ArchivedAuditLog, AuditAnchor, AuditArchive
from config.site.admin_base import ReadOnlyAdmin, as_badge, as_link

# How many tenants the filter lists. Search by id for any other.
NEWEST = 20
# How much of a hash a list shows; the row's page shows all of it.
SHORT = 16


class ControlAuditLogAdmin(AuditEntryAdmin):
    """The control log: operators' commands, logins, changes by staff, and the product's own work.

    An entry whose resource is a tenant is shown to people who may see that tenant; any other entry, only to people who
    may see all tenants.
    """

    tenant_path = "resource_id"
    export_permission = "audit_control.export_controlauditlog"

    def of_tenants(self, tenant_ids: Any) -> Q:
        return Q(resource_type="tenant", resource_id__in=tenant_ids)

    def tenant_of(self, row: Any) -> str | None:
        return str(row.resource_id) if row.resource_type == "tenant" else None


class ArchivedTenantFilter(admin.SimpleListFilter):
    """Filter by erased tenant. The ids come from the archives, because reading them from the entries would be slow."""

    title = gettext_lazy("tenant")
    parameter_name = "tenant"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        archives = model_admin.admin_site.get_model_admin(AuditArchive).get_queryset(request)
        newest = archives.order_by("-archived_at").values_list("tenant_id", flat=True)[:NEWEST]
        asked = request.GET.get(self.parameter_name)
        return [(tenant_id, tenant_id) for tenant_id in sorted({*newest, *([asked] if asked else [])})]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ArchivedAuditLog]) -> QuerySet[ArchivedAuditLog]:
        return queryset.filter(tenant_id=self.value()) if self.value() else queryset


class ArchivedAuditLogAdmin(AuditEntryAdmin):
    """Entries of erased tenants' logs, unchanged."""

    tenant_path = "tenant_id"
    list_display = ("tenant_id", *AuditEntryAdmin.list_display)
    list_filter = (ArchivedTenantFilter, *AuditEntryAdmin.list_filter)
    search_fields = ("=tenant_id", *AuditEntryAdmin.search_fields)
    search_help_text = gettext_lazy(
        "Part of a person's or an object's name; or an exact tenant id, object id, operation id, resource or action,"
        " such as run.create"
    )
    fields = ("tenant_id", "identity", *AuditEntryAdmin.fields)
    # The inherited action would export the control database's own log; `seo-gen audit export` exports one tenant's.
    actions_list = ()
    list_before_template = None


class AuditArchiveAdmin(ReadOnlyAdmin):
    """The archived logs. `seo-gen audit verify` and `seo-gen erasure verify` check that they are unchanged."""

    audit_resource = "audit_archive"
    tenant_path = "tenant_id"
    list_display = ("tenant_id", "entries", "archived_at", "shown_state")
    list_filter = ("archived_at",)
    search_fields = ("=tenant_id", "=identity")
    search_help_text = gettext_lazy("Exact tenant id or identity")
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
            return as_badge(_("intact"), "success")
        return as_badge(_("broken at entry %(number)d") % {"number": archive.first_bad}, "danger")

    @admin.display(description=gettext_lazy("log entries"))
    def shown_entries(self, archive: AuditArchive) -> SafeString:
        page = reverse("admin:audit_control_archivedauditlog_changelist")
        query: dict[str, Any] = {ArchivedTenantFilter.parameter_name: archive.tenant_id}
        return as_link(f"{page}?{urlencode(query)}", _("Show"))


class LogFilter(admin.SimpleListFilter):
    """Filter by the kind of log. Search by tenant id for one tenant's anchors."""

    title = gettext_lazy("log")
    parameter_name = "log"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("control", _("control log")), ("tenants", _("tenants' logs"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditAnchor]) -> QuerySet[AuditAnchor]:
        match self.value():
            case "control":
                return queryset.filter(tenant_id="")
            case "tenants":
                return queryset.exclude(tenant_id="")
        return queryset


class AuditAnchorAdmin(ReadOnlyAdmin):
    """The anchors of the logs. The control log's are listed for people who may see all tenants.

    Others see only a sentence about its newest anchor, above the list.
    """

    audit_resource = "audit_anchor"
    tenant_path = "tenant_id"
    list_display = ("shown_log", "created_at", "sequence", "short_hash", "short_guards")
    list_filter = (LogFilter, ("created_at", RangeDateTimeFilter))
    list_filter_submit = True
    list_before_template = "admin/audit_anchors.html"
    search_fields = ("=tenant_id", "=identity", "=hash", "=run")
    search_help_text = gettext_lazy("Exact tenant id, identity or hash, or the id of an anchoring")
    show_full_result_count = False
    fields = (("shown_log", "created_at"), ("sequence", "identity"), "hash", "guard_hash", "run")

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        page: Any = super().get_changelist_instance(request)
        page.log_state = log_state(DEFAULT_DB_ALIAS)
        return page

    @admin.display(description=gettext_lazy("log"), ordering="tenant_id")
    def shown_log(self, anchor: AuditAnchor) -> str:
        return anchor.tenant_id or _("control log")

    @admin.display(description=gettext_lazy("hash"))
    def short_hash(self, anchor: AuditAnchor) -> str:
        return anchor.hash[:SHORT]

    @admin.display(description=gettext_lazy("guards"))
    def short_guards(self, anchor: AuditAnchor) -> str:
        return anchor.guard_hash[:SHORT]
