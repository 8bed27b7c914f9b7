"""The two admin sites: one for the control database, and one for each tenant.

Both are called "admin", each in its own URLconf, so that `admin:…` names stay on the request's site.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from django.contrib.auth import REDIRECT_FIELD_NAME, logout
from django.contrib.auth.models import Group, User
from django.db import router, transaction
from django.db.models import Count, Model, QuerySet, Sum
from django.forms import Form
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, URLResolver, reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from audit.admin import AuditLogAdmin
from audit.control.admin import ArchivedAuditLogAdmin, AuditArchiveAdmin, ControlAuditLogAdmin
from audit.control.models import ArchivedAuditLog, AuditArchive, ControlAuditLog
from audit.log.actor import acting_as
from audit.log.entries import record
from audit.models import AuditLog
from config.site.admin_base import StaffAdmin
from config.site.requests import wellformed
from config.site.staff import GroupAdmin, UserAdmin
from llm.admin import LLMModelAdmin, LLMProviderAdmin, StepLLMDefaultAdmin
from llm.models import LLMModel, LLMProvider, StepLLMDefault
from prompts.admin import PromptAdmin
from prompts.models import Prompt
from runs.admin import RUN_COLORS, ArtifactAdmin, RunAdmin, RunCostAdmin, StepAdmin, money
from runs.models import Artifact, Run, RunCost, RunStatus, Step
from tenants.admin.backups import BackupAdmin, BaseBackupAdmin, RestoreAdmin
from tenants.admin.erasures import ErasureAdmin
from tenants.admin.fleet import MigrationBatchAdmin, TenantSchemaAdmin
from tenants.admin.tenants import STATUS_COLORS, DatabaseServerAdmin, TenantAdmin
from tenants.models import (
    Backup,
    BaseBackup,
    DatabaseServer,
    Erasure,
    MigrationBatch,
    Restore,
    Tenant,
    TenantSchema,
    TenantStatus,
)
from tenants.routing.site_urls import control_url, tenant_url
from tenants.selectors import tenants_existing

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite
else:
    from unfold.sites import UnfoldAdminSite as AdminSite

# Pages of Django and unfold that are left out: one looks up tenant models in the control database, the other stores
# results in a cache that all tenants share.
LEFT_OUT = frozenset({"view_on_site", "search"})
NEWEST = 8


class StaffSite(AdminSite):
    """An admin site that audits changes under the staff member's name, instead of using Django's own log."""

    audit_log: type[Model]

    def __init__(self) -> None:
        super().__init__(name="admin")
        # Objects are only deleted on their own page, one at a time and audited.
        self.disable_action("delete_selected")

    def register(self, model_or_iterable: Any, admin_class: type[Any] | None = None, **options: Any) -> None:
        """Register a model; changes by its admin class are audited automatically."""
        assert admin_class is not None and issubclass(admin_class, StaffAdmin)
        audited = type(admin_class.__name__, (Audited, admin_class), {"__module__": admin_class.__module__})
        super().register(model_or_iterable, audited, **options)

    def admin_view(self, view: Callable[..., Any], cacheable: bool = False) -> Any:
        # Views of a model are methods of its admin class.
        model = getattr(getattr(view, "__self__", None), "model", None)

        def act(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            with (
                acting_as(f"staff:{request.user.get_username()}", operation_id=uuid4().hex),
                wellformed(request, model, kwargs),
            ):
                return view(request, *args, **kwargs)

        # Keep the view's attributes, such as `csrf_exempt`, as Django's own wrapper does.
        act.__dict__.update(view.__dict__)
        return super().admin_view(act, cacheable)

    def get_urls(self) -> list[URLPattern | URLResolver]:
        return [url for url in super().get_urls() if getattr(url, "name", None) not in LEFT_OUT]

    def audit_url(self, resource_type: str, resource_id: str) -> str:
        """Return the URL of the audit log's entries about one object."""
        page = reverse(f"admin:{self.audit_log._meta.app_label}_{self.audit_log._meta.model_name}_changelist")
        return f"{page}?{urlencode({'resource_type__exact': resource_type, 'resource_id__exact': resource_id})}"


class Audited(StaffAdmin):
    """Write an audit entry where Django writes its own log: in the transaction of the change.

    An entry names the changed fields; it holds values only if `audit_change` returns them.
    """

    def construct_change_message(self, request: HttpRequest, form: Form, formsets: Any, add: bool = False) -> Any:
        return {"fields": sorted(form.changed_data), **self.audit_change(form)}

    def log_addition(self, request: HttpRequest, obj: Model, message: Any) -> Any:
        self._record("create", obj, message)

    def log_change(self, request: HttpRequest, obj: Model, message: Any) -> Any:
        if message["fields"]:
            self._record("change", obj, message)

    def log_deletions(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        for obj in queryset:
            self._record("delete", obj, {"name": str(obj)})

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the object's entries in the audit log."""
        site = self.admin_site
        assert isinstance(site, StaffSite)
        return HttpResponseRedirect(site.audit_url(self.resource_type, object_id))

    @property
    def resource_type(self) -> str:
        return self.audit_resource or self.audit_noun.replace(".", "_") or str(self.opts.model_name)

    def _record(self, verb: str, obj: Model, details: dict[str, object]) -> None:
        if self.audit_noun:
            record(
                using=router.db_for_write(type(obj)),
                action=f"{self.audit_noun}.{verb}",
                resource_type=self.resource_type,
                resource_id=str(obj.pk),
                details={**self.audit_details(obj), **details},
            )


class ControlSite(StaffSite):
    """What staff configure for all tenants: models, prices, servers, tenants, users."""

    index_template = "admin/control_index.html"
    audit_log = ControlAuditLog

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        overview: dict[str, Any] = {"title": _("Overview")}
        if request.user.has_perm("tenants.view_tenant"):
            overview["tenants"] = [
                (tenant, STATUS_COLORS[TenantStatus(tenant.status)], _site_of(tenant))
                for tenant in tenants_existing().order_by("-created_at")[:NEWEST]
            ]
        return super().index(request, {**overview, **(extra_context or {})})

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Lead to the overview, unless another page was requested."""
        query = request.GET.copy()
        query.setdefault(REDIRECT_FIELD_NAME, reverse("admin:index"))
        request.GET = query  # type: ignore[assignment]
        return super().login(request, extra_context)

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        with transaction.atomic(using="default"):
            response = super().password_change(request, extra_context)
            if request.method == "POST" and isinstance(response, HttpResponseRedirect):
                record(
                    using="default",
                    action="user.change",
                    resource_type="user",
                    resource_id=str(request.user.pk),
                    details={"fields": ["password"]},
                )
        return response


class TenantSite(StaffSite):
    """One tenant's runs, prompts, costs and history. The URL names the tenant (`tenants.routing.middleware`)."""

    index_template = "admin/tenant_index.html"
    audit_log = AuditLog

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        overview: dict[str, Any] = {"title": _("Overview")}
        if request.user.has_perm("runs.view_run"):
            overview |= _run_overview()
        return super().index(request, {**overview, **(extra_context or {})})

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return HttpResponseRedirect(control_url("admin:login"))

    def logout(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        if request.method == "POST":
            logout(request)
        return HttpResponseRedirect(control_url("admin:index"))

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        return HttpResponseRedirect(control_url("admin:password_change"))


def _site_of(tenant: Tenant) -> str | None:
    return tenant_url(tenant.id, "admin:index") if tenant.status == TenantStatus.ACTIVE else None


def _run_overview() -> dict[str, Any]:
    """Return the tenant's newest runs, the number of runs in each status, and their total cost."""
    counts = dict(Run.objects.values_list("status").annotate(count=Count("pk")).order_by())
    cost = RunCost.objects.aggregate(total=Sum("total_llm_cost"), unpriced=Sum("unpriced_steps"))
    return {
        "runs": [(run, RUN_COLORS[RunStatus(run.status)]) for run in Run.objects.order_by("-created_at")[:NEWEST]],
        "counts": [(status, counts.get(status.value, 0)) for status in RunStatus],
        "cost": money(cost["total"], cost["unpriced"] or 0),
    }


control_site = ControlSite()
control_site.register(LLMProvider, LLMProviderAdmin)
control_site.register(LLMModel, LLMModelAdmin)
control_site.register(StepLLMDefault, StepLLMDefaultAdmin)
control_site.register(DatabaseServer, DatabaseServerAdmin)
control_site.register(Tenant, TenantAdmin)
control_site.register(TenantSchema, TenantSchemaAdmin)
control_site.register(MigrationBatch, MigrationBatchAdmin)
control_site.register(Backup, BackupAdmin)
control_site.register(Restore, RestoreAdmin)
control_site.register(BaseBackup, BaseBackupAdmin)
control_site.register(Erasure, ErasureAdmin)
control_site.register(ControlAuditLog, ControlAuditLogAdmin)
control_site.register(AuditArchive, AuditArchiveAdmin)
control_site.register(ArchivedAuditLog, ArchivedAuditLogAdmin)
control_site.register(User, UserAdmin)
control_site.register(Group, GroupAdmin)

tenant_site = TenantSite()
tenant_site.register(Run, RunAdmin)
tenant_site.register(Step, StepAdmin)
tenant_site.register(Artifact, ArtifactAdmin)
tenant_site.register(RunCost, RunCostAdmin)
tenant_site.register(Prompt, PromptAdmin)
tenant_site.register(AuditLog, AuditLogAdmin)
