"""Admin pages for the fleet: schema versions and drift, the migration of all tenants, batches."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from config.base.times import lasting
from config.site.admin_base import NO_TENANT, ReadOnlyAdmin, ReadOnlyInline, action, as_badge
from tenants.admin.request_forms import MigrateForm
from tenants.admin.request_pages import page_of, request_page
from tenants.models import BatchKind, BatchStatus, BatchTenant, MigrationBatch, RequestKind, Tenant, TenantStatus
from tenants.requests.request import may
from tenants.requests.step_names import step_title
from tenants.schema.releases import SchemaState, release, short
from tenants.types import PHASES

STATE_COLORS = {
    SchemaState.CURRENT: "success",
    SchemaState.BEHIND: "warning",
    SchemaState.AHEAD: "danger",
    SchemaState.UNKNOWN: "info",
}
BATCH_COLORS = {
    BatchStatus.PREPARING: "info",
    BatchStatus.COMMITTING: "info",
    BatchStatus.ROLLING_BACK: "warning",
    BatchStatus.COMPLETED: "success",
    BatchStatus.ROLLED_BACK: "danger",
}
NEWEST = 5
INLINE_PAGE = 50


class StateFilter(admin.SimpleListFilter):
    """Filter by how a tenant's schema version compares with the code's.

    The query lists the matching versions: a fleet has only a few distinct ones.
    """

    title = gettext_lazy("schema")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(SchemaState.choices)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> QuerySet[Tenant]:
        if not self.value():
            return queryset
        code = release()
        versions = [version for version, _count in _versions(queryset) if code.state_of(version) == self.value()]
        return queryset.filter(schema_version__in=versions)


class DriftFilter(admin.SimpleListFilter):
    title = gettext_lazy("drift")
    parameter_name = "drift"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("no", _("no")), ("yes", _("yes")), ("unknown", _("not compared"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> QuerySet[Tenant]:
        match self.value():
            case "no":
                return queryset.filter(schema_drift=[])
            case "yes":
                return _drifted(queryset)
            case "unknown":
                return queryset.filter(schema_drift__isnull=True)
        return queryset


class TenantSchemaAdmin(ReadOnlyAdmin):
    """The fleet page: what the control database stores about each tenant's schema, and the newest migrations."""

    audit_resource = "tenant"
    tenant_path = "id"
    list_display = ("id", "name", "state", "shown_version", "drift", "schema_checked_at", "server")
    list_filter = (StateFilter, DriftFilter, ("server", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("server",)
    list_before_template = "admin/fleet.html"
    search_fields = ("id", "name")
    actions_list = ("migrate",)
    fields = ("id", "name", "state", "schema_version", "drift", "differences", "schema_checked_at", "server")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Tenant]:
        tenants: QuerySet[Tenant] = super().get_queryset(request)
        return tenants.exclude(status=TenantStatus.DELETED)

    def has_migrate_permission(self, request: HttpRequest) -> bool:
        return request.user.is_authenticated and may(request.user, RequestKind.MIGRATE, "")

    @action(
        description=gettext_lazy("Migrate all tenants …"),
        permissions=["migrate"],
        icon="published_with_changes",
        url_path="migrate",
    )
    def migrate(self, request: HttpRequest) -> HttpResponse:
        return request_page(self, request, MigrateForm, None, page_of(RequestKind.MIGRATE, None))

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        code = release()
        counts = dict.fromkeys(SchemaState, 0)
        tenants = self.get_queryset(request)
        for version, count in _versions(tenants):
            counts[code.state_of(version)] += count
        fleet = {
            "code_version": short(code.version),
            "states": [(state, count) for state, count in counts.items()],
            "drifted": _drifted(tenants).count(),
            "batches": [
                (batch, BATCH_COLORS[BatchStatus(batch.status)], duration(batch))
                for batch in MigrationBatch.objects.filter(kind=BatchKind.MIGRATE).order_by("-started_at")[:NEWEST]
            ],
        }
        return super().changelist_view(request, {**fleet, **(extra_context or {})})

    @admin.display(description=gettext_lazy("schema"), ordering="schema_version")
    def state(self, tenant: Tenant) -> SafeString:
        state = release().state_of(tenant.schema_version)
        return as_badge(state.label, STATE_COLORS[state])

    @admin.display(description=gettext_lazy("version"))
    def shown_version(self, tenant: Tenant) -> str | None:
        return short(tenant.schema_version) or None

    @admin.display(description=gettext_lazy("drift"))
    def drift(self, tenant: Tenant) -> SafeString:
        if tenant.schema_drift is None:
            return as_badge(_("not compared"), "info")
        count = len(tenant.schema_drift)
        if not count:
            return as_badge(_("none"), "success")
        return as_badge(_("differences: %(count)d") % {"count": count}, "danger")

    @admin.display(description=gettext_lazy("differences"))
    def differences(self, tenant: Tenant) -> SafeString | None:
        found = tenant.schema_drift or []
        return format_html_join("", "<div>{}</div>", ((one,) for one in found)) if found else None


class BatchTenantInline(ReadOnlyInline):
    model = BatchTenant
    per_page = INLINE_PAGE
    fields = ("tenant_id", "server", "before", "applied", "prepared_ms", "locked_ms")
    readonly_fields = fields
    verbose_name_plural = gettext_lazy("tenants with changes")

    @admin.display(description=gettext_lazy("from version"))
    def before(self, row: BatchTenant) -> str:
        return short(row.from_version)

    @admin.display(description=gettext_lazy("changes"))
    def applied(self, row: BatchTenant) -> str:
        return ", ".join([*row.migrations, *map(_copied, row.changes or [])])


class MigrationBatchAdmin(ReadOnlyAdmin):
    audit_resource = "migration_batch"
    tenant_path = NO_TENANT
    list_display = (
        "started_at",
        "kind",
        "scope",
        "shown_status",
        "affected",
        "counted_tenants",
        "took",
        "user_id",
    )
    list_filter = ("kind", "status", "dry_run", "started_at")
    search_fields = ("=id", "=tenant_id", "=tenants__tenant_id")
    search_help_text = gettext_lazy("Full tenant id or batch id")
    inlines = (BatchTenantInline,)
    fields = (
        ("started_at", "finished_at", "took"),
        ("scope", "shown_status", "user_id"),
        ("counted_tenants", "affected", "shown_id"),
        ("kind", "undoes"),
        "version",
        "phases",
        "problems",
    )

    def get_inlines(self, request: HttpRequest, obj: MigrationBatch | None) -> Any:
        """Leave the table out if it would be empty."""
        return self.inlines if obj is not None and obj.tenants.exists() else ()

    @admin.display(description="ID")
    def shown_id(self, batch: MigrationBatch) -> str:
        return str(batch.pk)

    @admin.display(description=gettext_lazy("scope"))
    def scope(self, batch: MigrationBatch) -> str | None:
        """Return which tenants a migration was for; None for a copy of prompts, whose record does not say."""
        return _("all") if not batch.tenant_id and batch.kind == BatchKind.MIGRATE else batch.tenant_id or None

    @admin.display(description=gettext_lazy("outcome"), ordering="status")
    def shown_status(self, batch: MigrationBatch) -> SafeString:
        label = batch.get_status_display()
        return as_badge(
            _("%(status)s (dry run)") % {"status": label} if batch.dry_run else label,
            BATCH_COLORS[BatchStatus(batch.status)],
        )

    @admin.display(description=gettext_lazy("number of tenants"), ordering="tenant_count")
    def counted_tenants(self, batch: MigrationBatch) -> int:
        return batch.tenant_count

    @admin.display(description=gettext_lazy("tenants with changes"), ordering="pending_count")
    def affected(self, batch: MigrationBatch) -> int:
        """Return for how many tenants there was something to apply, even if it was not applied.

        It is 0 for a batch that failed before it began to prepare tenants.
        """
        return batch.pending_count

    @admin.display(description=gettext_lazy("duration"))
    def took(self, batch: MigrationBatch) -> str | None:
        return duration(batch)

    @admin.display(description=gettext_lazy("timing"))
    def phases(self, batch: MigrationBatch) -> str | None:
        timing = batch.timing_ms or {}
        took = (f"{step_title(name)} {lasting(timing[name] / 1000)}" for name in PHASES if name in timing)
        return ", ".join(took) or None

    @admin.display(description=gettext_lazy("problems"))
    def problems(self, batch: MigrationBatch) -> SafeString | None:
        lines = batch.error.splitlines()
        return format_html_join("", "<div>{}</div>", ((line,) for line in lines)) if lines else None


def _copied(change: dict[str, Any]) -> str:
    """Return what a copy changed, such as "draft v2 → v3"; "-" stands for no version."""
    before, after = (f"v{change[key]}" if change[key] else "-" for key in ("before", "after"))
    return f"{change['step']} {before} → {after}"


def duration(batch: MigrationBatch) -> str | None:
    """Return how long the batch took, such as "1.4 s"; None until it has finished."""
    if batch.finished_at is None:
        return None
    return lasting((batch.finished_at - batch.started_at).total_seconds())


def _versions(tenants: QuerySet[Tenant]) -> list[tuple[str, int]]:
    """Return (version, number of tenants) for each version that the tenants have."""
    return list(tenants.order_by().values_list("schema_version").annotate(count=Count("pk")))


def _drifted(tenants: QuerySet[Tenant]) -> QuerySet[Tenant]:
    return tenants.filter(schema_drift__isnull=False).exclude(schema_drift=[])
