"""Read-only admin pages for the audit log."""

from typing import Any, ClassVar

from django.contrib import admin
from django.db import router
from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.utils.formats import date_format
from django.utils.http import content_disposition_header
from django.utils.safestring import SafeString
from django.utils.timezone import localtime
from django.utils.translation import gettext_lazy as _

from audit.log.actions import ACTIONS
from audit.log.entries import log_export
from audit.models import AuditEntry
from config.site.admin_base import ReadOnlyAdmin, action, as_json


class ActionFilter(admin.SimpleListFilter):
    """Filter by action. The names come from the registry: reading them from the table would scan all of it."""

    title = _("action")
    parameter_name = "event"

    def lookups(self, request: HttpRequest, model_admin: object) -> list[tuple[str, str]]:
        return [(action, action) for action in sorted(ACTIONS)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        return queryset.filter(action=self.value()) if self.value() else queryset


class AuditEntryAdmin(ReadOnlyAdmin):
    list_display: tuple[str, ...] = ("time", "user_id", "action", "resource_type", "resource_id", "sequence")
    list_display_links = ("time", "action")
    list_filter: ClassVar[tuple[Any, ...]] = (ActionFilter, "created_at")
    search_fields: ClassVar[tuple[str, ...]] = ("=user_id", "=resource_id", "=resource_type", "=operation_id")
    search_help_text = _("Exact actor, resource, resource id or operation")
    fields: ClassVar[tuple[str, ...]] = (
        *("time", "user_id", "action", "resource_type", "resource_id", "shown_details", "operation_id"),
        *("sequence", "previous_hash", "entry_hash"),
    )
    show_full_result_count = False
    actions_list: ClassVar[tuple[str, ...]] = ("export",)

    @action(description=_("Export"), permissions=["view"])
    def export(self, request: HttpRequest) -> StreamingHttpResponse:
        """Stream the log in the format of `audit export`. The export is recorded before the first line is sent."""
        alias = router.db_for_read(self.model)
        name = f"audit-{alias.rpartition(':')[2]}-{localtime():%Y%m%dT%H%M%S}.jsonl"
        return StreamingHttpResponse(
            log_export(using=alias),
            content_type="application/x-ndjson",
            headers={"Content-Disposition": content_disposition_header(True, name) or ""},
        )

    @admin.display(description=_("time"), ordering="id")
    def time(self, entry: AuditEntry) -> str:
        return date_format(localtime(entry.created_at), "Y-m-d H:i:s")

    @admin.display(description=_("details"))
    def shown_details(self, entry: AuditEntry) -> SafeString | None:
        return as_json(entry.details)


class AuditLogAdmin(AuditEntryAdmin):
    """A tenant's own log."""
