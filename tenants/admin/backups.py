"""Admin pages for backups, restores and base backups. Read-only: only commands change them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from config.base.output import size
from config.site.admin_base import ReadOnlyAdmin, as_badge, as_json
from tenants.models import Backup, BackupStatus, BaseBackup, OperationStatus, Restore
from tenants.schema.releases import short

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
    """The catalogue: where each customer's data is stored outside its database."""

    audit_resource = "tenant"
    list_display = ("started_at", "tenant_id", "kind", "shown_status", "shown_size", "encrypted", "checked", "user_id")
    list_filter = ("status", "kind", "started_at")
    search_fields = ("=tenant_id", "name", "=id")
    search_help_text = gettext_lazy("Full tenant id, or part of a file name")
    fields = (
        ("started_at", "finished_at", "user_id"),
        ("tenant_id", "kind", "shown_status"),
        "file",
        ("shown_size", "format", "recipient"),
        ("version", "checked", "removed_at"),
        "problem",
        "shown_manifest",
    )

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
        return as_badge(_("damaged"), "danger") if backup.verify_error else as_badge(_("intact"), "success")

    @admin.display(description=gettext_lazy("file"))
    def file(self, backup: Backup) -> str:
        return f"{backup.place}/{backup.name}"

    @admin.display(description=gettext_lazy("schema version"))
    def version(self, backup: Backup) -> str | None:
        return short(backup.schema_version) or None

    @admin.display(description=gettext_lazy("problem"))
    def problem(self, backup: Backup) -> str | None:
        return backup.verify_error or backup.error or None

    @admin.display(description=gettext_lazy("manifest"))
    def shown_manifest(self, backup: Backup) -> SafeString | None:
        return as_json(backup.manifest)


class RestoreAdmin(ReadOnlyAdmin):
    audit_resource = "tenant"
    list_display = ("started_at", "tenant_id", "kind", "shown_status", "source", "kept_until", "user_id")
    list_filter = ("operation__kind", "operation__status", "operation__started_at")
    list_select_related = ("operation",)
    search_fields = ("=tenant_id", "source")
    search_help_text = gettext_lazy("Full tenant id, or part of a file name")
    fields = (
        ("started_at", "finished_at", "user_id"),
        ("tenant_id", "kind", "shown_status"),
        "source",
        ("kept", "kept_until"),
        "error",
        "closed_for",
        "lost_runs",
        "failed_runs",
        "missing_files",
        "shown_report",
    )

    @admin.display(description=gettext_lazy("started"), ordering="operation__started_at")
    def started_at(self, row: Restore) -> object:
        return row.operation.started_at

    @admin.display(description=gettext_lazy("finished"))
    def finished_at(self, row: Restore) -> object:
        return row.operation.finished_at

    @admin.display(description=gettext_lazy("by"))
    def user_id(self, row: Restore) -> str:
        return row.operation.user_id

    @admin.display(description=gettext_lazy("operation"), ordering="operation__kind")
    def kind(self, row: Restore) -> str:
        return row.operation.kind

    @admin.display(description=gettext_lazy("status"), ordering="operation__status")
    def shown_status(self, row: Restore) -> SafeString:
        operation = row.operation
        return as_badge(operation.get_status_display(), OPERATION_COLORS[OperationStatus(operation.status)])

    @admin.display(description=gettext_lazy("error"))
    def error(self, row: Restore) -> str | None:
        return row.operation.error or None

    @admin.display(description=gettext_lazy("closed for"))
    def closed_for(self, row: Restore) -> str | None:
        closed_ms = (row.report or {}).get("unavailable_ms")
        return None if closed_ms is None else _("%(ms)d ms") % {"ms": closed_ms}

    @admin.display(description=gettext_lazy("lost runs (newer than the restored state)"))
    def lost_runs(self, row: Restore) -> SafeString | None:
        return _lines(row, "lost_runs")

    @admin.display(description=gettext_lazy("runs in progress, marked as failed"))
    def failed_runs(self, row: Restore) -> SafeString | None:
        return _lines(row, "failed_runs")

    @admin.display(description=gettext_lazy("missing files"))
    def missing_files(self, row: Restore) -> SafeString | None:
        return _lines(row, "missing_files")

    @admin.display(description=gettext_lazy("report"))
    def shown_report(self, row: Restore) -> SafeString | None:
        return as_json(row.report)


class BaseBackupAdmin(ReadOnlyAdmin):
    """The base backups that a point-in-time restore can start from."""

    audit_resource = "database_server"
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
        ("verified_at", "removed_at"),
        "error",
    )

    @admin.display(description=gettext_lazy("status"), ordering="status")
    def shown_status(self, backup: BaseBackup) -> SafeString:
        return as_badge(backup.get_status_display(), BACKUP_COLORS[BackupStatus(backup.status)])

    @admin.display(description=gettext_lazy("size"), ordering="size_bytes")
    def shown_size(self, backup: BaseBackup) -> str | None:
        return size(backup.size_bytes) or None

    @admin.display(description=gettext_lazy("incremental"), boolean=True)
    def incremental(self, backup: BaseBackup) -> bool:
        return backup.parent_id is not None


def _lines(row: Restore, name: str) -> SafeString | None:
    found: Any = (row.report or {}).get(name)
    return format_html_join("", "<div>{}</div>", ((one,) for one in found)) if found else None
