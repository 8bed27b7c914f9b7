"""Admin pages for backups, restores and base backups, read-only; exports that staff requested are downloaded here."""

from __future__ import annotations

import re
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from config.base.errors import SeoGenError
from config.base.output import size
from config.base.times import to_minute
from config.site.admin_base import NO_TENANT, ReadOnlyAdmin, as_badge
from config.site.documents import as_document, label_of
from tenants.access.visible import is_permitted, is_still_permitted
from tenants.erasure.presentation import rows_of
from tenants.files.locations import place_at
from tenants.models import Backup, BackupKind, BackupStatus, BaseBackup, OperationStatus, Restore
from tenants.presentation import operation_name
from tenants.requests.exports import export_read
from tenants.requests.places import export_place
from tenants.restore.workflow import UNDO
from tenants.schema.releases import short

# In the stored source of an undo.
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT[\d:.+-]+")
EXPORT_TENANT = "tenants.export_tenant"
BACKUP_COLORS = {
    BackupStatus.RUNNING: "info",
    BackupStatus.COMPLETED: "success",
    BackupStatus.FAILED: "danger",
    BackupStatus.REMOVED: "warning",
}
OPERATION_COLORS = {
    OperationStatus.RUNNING: "info",
    OperationStatus.COMPLETED: "success",
    OperationStatus.UNDONE: "danger",
}


class BackupAdmin(ReadOnlyAdmin):
    """The catalogue of backups and exports: where copies of the tenants' data are stored."""

    audit_resource = "tenant"
    tenant_path = "tenant_id"
    change_form_outer_before_template = "admin/backup_download.html"
    list_display = ("started_at", "tenant_id", "kind", "shown_status", "shown_size", "encrypted", "checked", "user_id")
    list_filter = ("status", "kind", "started_at")
    search_fields = ("=tenant_id", "name", "=id")
    search_help_text = gettext_lazy("Full tenant id or backup id, or part of a file name")
    fields = (
        ("started_at", "finished_at", "user_id"),
        ("tenant_id", "kind", "shown_status"),
        "file",
        ("shown_size", "format", "recipient"),
        ("version", "checked", "shown_removed"),
        "problem",
        "shown_manifest",
    )

    def get_custom_urls(self) -> Any:
        return (("<uuid:object_id>/download/", "tenants_backup_download", self.download),)

    def download(self, request: HttpRequest, object_id: UUID, model_admin: object) -> HttpResponseBase:
        """Send an export that staff requested. Its end is sent only once the whole file has proved intact."""
        if not request.user.has_perm(EXPORT_TENANT):
            raise PermissionDenied
        backup = self.get_queryset(request).filter(pk=object_id).first()
        if backup is None or not is_downloadable(request, backup):
            raise Http404
        try:
            content = export_read(
                backup, is_allowed=partial(is_still_permitted, request.user.pk, EXPORT_TENANT, backup.tenant_id)
            )
        except SeoGenError as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(reverse("admin:tenants_backup_change", args=[object_id]))
        response = StreamingHttpResponse(content, content_type="application/octet-stream")
        response["Content-Disposition"] = f'attachment; filename="{backup.name}"'
        response["Content-Length"] = str(backup.size_bytes)
        return response

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        backup = kwargs.get("obj")
        if isinstance(backup, Backup) and is_downloadable(request, backup):
            context |= {"download_url": reverse("admin:tenants_backup_download", args=[backup.pk])}
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=gettext_lazy("status"), ordering="status")
    def shown_status(self, backup: Backup) -> SafeString:
        return as_badge(backup.get_status_display(), BACKUP_COLORS[BackupStatus(backup.status)])

    @admin.display(description=gettext_lazy("size"), ordering="size_bytes")
    def shown_size(self, backup: Backup) -> str | None:
        return size(backup.size_bytes) or None

    @admin.display(description=gettext_lazy("encrypted"), boolean=True)
    def encrypted(self, backup: Backup) -> bool:
        return bool(backup.recipient)

    @admin.display(description=gettext_lazy("verified"), ordering="verified_at")
    def checked(self, backup: Backup) -> SafeString | None:
        if backup.verified_at is None:
            return None
        return as_badge(_("verification failed"), "danger") if backup.verify_error else as_badge(_("intact"), "success")

    @admin.display(description=gettext_lazy("file"))
    def file(self, backup: Backup) -> str:
        return f"{backup.place}/{backup.name}"

    @admin.display(description=gettext_lazy("schema version"))
    def version(self, backup: Backup) -> str | None:
        return short(backup.schema_version) or None

    @admin.display(description=gettext_lazy("removed at"))
    def shown_removed(self, backup: Backup) -> str | None:
        return to_minute(backup.removed_at) if backup.removed_at else None

    @admin.display(description=gettext_lazy("problem"))
    def problem(self, backup: Backup) -> str | None:
        return backup.verify_error or backup.error or None

    @admin.display(description=gettext_lazy("manifest"))
    def shown_manifest(self, backup: Backup) -> SafeString | None:
        return as_document(backup.manifest, label=_key_of, has_raw=True)


def _key_of(key: str) -> str:
    """Return a manifest's key in words; for a table whose rows are counted, what the rows are."""
    words = label_of(key)
    return words if words != key else rows_of(key)


def is_downloadable(request: HttpRequest, backup: Backup) -> bool:
    """Return whether the person may download the backup: a completed export in the place for staff's exports."""
    if backup.kind != BackupKind.EXPORT or backup.status != BackupStatus.COMPLETED:
        return False
    return backup.place == place_at(export_place()).url and is_permitted(request.user, EXPORT_TENANT, backup.tenant_id)


class OperationFilter(admin.SimpleListFilter):
    title = gettext_lazy("operation")
    parameter_name = "operation__kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(kind, operation_name(kind)) for kind in ("restore", UNDO, "clone", "import")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Restore]) -> QuerySet[Restore]:
        return queryset.filter(operation__kind=self.value()) if self.value() else queryset


class RestoreAdmin(ReadOnlyAdmin):
    audit_resource = "tenant"
    tenant_path = "tenant_id"
    list_display = ("started_at", "tenant_id", "kind", "shown_status", "shown_source", "kept_until", "user_id")
    list_filter = (OperationFilter, "operation__status", "operation__started_at")
    list_select_related = ("operation",)
    search_fields = ("=tenant_id", "source")
    search_help_text = gettext_lazy("Full tenant id, or part of a file name")
    fields = (
        ("started_at", "finished_at", "user_id"),
        ("tenant_id", "kind", "shown_status"),
        "shown_source",
        ("kept", "kept_until"),
        "error",
        "closed_for",
        "lost_runs",
        "failed_runs",
        "missing_files",
        "shown_report",
    )

    @admin.display(description=gettext_lazy("started"), ordering="operation__started_at")
    def started_at(self, row: Restore) -> str:
        return to_minute(row.operation.started_at)

    @admin.display(description=gettext_lazy("finished"))
    def finished_at(self, row: Restore) -> str | None:
        return to_minute(row.operation.finished_at) if row.operation.finished_at else None

    @admin.display(description=gettext_lazy("requested by"))
    def user_id(self, row: Restore) -> str:
        return row.operation.user_id

    @admin.display(description=gettext_lazy("operation"), ordering="operation__kind")
    def kind(self, row: Restore) -> str:
        return operation_name(row.operation.kind)

    @admin.display(description=gettext_lazy("status"), ordering="operation__status")
    def shown_status(self, row: Restore) -> SafeString:
        operation = row.operation
        return as_badge(operation.get_status_display(), OPERATION_COLORS[OperationStatus(operation.status)])

    @admin.display(description=gettext_lazy("restored or imported from"), ordering="source")
    def shown_source(self, row: Restore) -> str:
        """Return the file or point in time; for an undo, which database came back, in the reader's language."""
        replaced_at = TIMESTAMP.search(row.source) if row.operation.kind == UNDO else None
        if replaced_at is None:
            return row.source
        return _("the database replaced by the operation of %(time)s") % {
            "time": to_minute(datetime.fromisoformat(replaced_at[0]))
        }

    @admin.display(description=gettext_lazy("error"))
    def error(self, row: Restore) -> str | None:
        return row.operation.error or None

    @admin.display(description=gettext_lazy("tenant closed for"))
    def closed_for(self, row: Restore) -> str | None:
        closed_ms = (row.report or {}).get("unavailable_ms")
        return None if closed_ms is None else _("%(ms)d ms") % {"ms": closed_ms}

    @admin.display(description=gettext_lazy("lost runs (newer than the restored state)"))
    def lost_runs(self, row: Restore) -> SafeString | None:
        return _lines(row, "lost_runs")

    @admin.display(description=gettext_lazy("runs in progress, marked as failed"))
    def failed_runs(self, row: Restore) -> SafeString | None:
        return _lines(row, "failed_runs")

    @admin.display(description=gettext_lazy("missing or changed files"))
    def missing_files(self, row: Restore) -> SafeString | None:
        return _lines(row, "missing_files")

    @admin.display(description=gettext_lazy("report"))
    def shown_report(self, row: Restore) -> SafeString | None:
        hidden = ("lost_runs", "failed_runs", "missing_files", "unavailable_ms")
        return as_document(row.report, has_raw=True, hidden=hidden)


class BaseBackupAdmin(ReadOnlyAdmin):
    """The catalogue of base backups, which point-in-time restores start from."""

    audit_resource = "database_server"
    tenant_path = NO_TENANT
    list_display = ("started_at", "server", "name", "shown_status", "shown_size", "incremental", "verified_at")
    list_filter = ("server", "status", "started_at")
    list_select_related = ("server", "parent")
    search_fields = ("name",)
    fields = (
        ("started_at", "finished_at", "user_id"),
        ("server", "shown_status", "parent"),
        ("place", "name", "shown_size"),
        ("server_version", "timeline", "system_identifier"),
        ("start_lsn", "stop_lsn"),
        ("verified_at", "shown_removed"),
        "error",
    )

    @admin.display(description=gettext_lazy("status"), ordering="status")
    def shown_status(self, backup: BaseBackup) -> SafeString:
        return as_badge(backup.get_status_display(), BACKUP_COLORS[BackupStatus(backup.status)])

    @admin.display(description=gettext_lazy("size"), ordering="size_bytes")
    def shown_size(self, backup: BaseBackup) -> str | None:
        return size(backup.size_bytes) or None

    @admin.display(description=gettext_lazy("removed at"))
    def shown_removed(self, backup: BaseBackup) -> str | None:
        return to_minute(backup.removed_at) if backup.removed_at else None

    @admin.display(description=gettext_lazy("incremental"), boolean=True)
    def incremental(self, backup: BaseBackup) -> bool:
        return backup.parent_id is not None


def _lines(row: Restore, name: str) -> SafeString | None:
    found: Any = (row.report or {}).get(name)
    return format_html_join("", "<div>{}</div>", ((one,) for one in found)) if found else None
