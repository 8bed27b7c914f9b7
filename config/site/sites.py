"""The two admin sites: one for the control database, and one for each tenant.

Both are called "admin", each in its own URLconf, so that `admin:…` names stay on the request's site.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from django.contrib.auth import REDIRECT_FIELD_NAME, logout
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import router
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import URLPattern, URLResolver, path, reverse
from django.utils.http import urlencode
from django.utils.text import capfirst

from audit.admin import AuditLogAdmin
from audit.control.admin import ArchivedAuditLogAdmin, AuditAnchorAdmin, AuditArchiveAdmin, ControlAuditLogAdmin
from audit.control.models import ArchivedAuditLog, AuditAnchor, AuditArchive, ControlAuditLog
from audit.log.actor import acting_as
from audit.log.entries import record
from audit.log.values import changes, plain
from audit.models import AuditLog
from config.site.admin_base import StaffAdmin
from config.site.conflicts import stored_objects
from config.site.frame.search import context_of
from config.site.home.control import control_home
from config.site.home.tenant import tenant_home
from config.site.navigation import active_entry, entry_titles, menu_entries
from config.site.requests import wellformed
from config.site.scope import Scoped, scoped_view
from config.site.sign_in.pages.account import own_password_page
from config.site.sign_in.pages.site import SignInPages
from config.site.staff import TenantGroupAdmin, UserAdmin
from llm.admin.models import LLMModelAdmin
from llm.admin.pipeline import StepLLMDefaultAdmin
from llm.admin.providers import LLMProviderAdmin
from llm.models import LLMModel, LLMProvider, StepLLMDefault
from prompts.admin.versions import PromptAdmin
from prompts.models import Prompt
from runs.admin.artifacts import ArtifactAdmin
from runs.admin.cost_pages import costs_page
from runs.admin.costs import RunCostAdmin
from runs.admin.overrides import StepOverrideAdmin
from runs.admin.runs import RunAdmin
from runs.admin.steps import StepAdmin
from runs.models import Artifact, Run, RunCost, Step, StepOverride
from tenants.access.grants import access_open_to
from tenants.access.visible import tenants_permitted
from tenants.admin.approvals import ApprovalAdmin
from tenants.admin.backups import BackupAdmin, BaseBackupAdmin, RestoreAdmin
from tenants.admin.erasures import ErasureAdmin
from tenants.admin.fleet import MigrationBatchAdmin, TenantSchemaAdmin
from tenants.admin.operations import OperationRequestAdmin
from tenants.admin.temporary_access import TemporaryAccessAdmin
from tenants.admin.tenants import DatabaseServerAdmin, TenantAdmin
from tenants.models import (
    Approval,
    Backup,
    BaseBackup,
    DatabaseServer,
    Erasure,
    MigrationBatch,
    OperationRequest,
    Restore,
    TemporaryAccess,
    Tenant,
    TenantGroup,
    TenantSchema,
)
from tenants.routing.context import current_tenant, current_tenant_or_none
from tenants.routing.site_urls import control_url

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite
else:
    from unfold.sites import UnfoldAdminSite as AdminSite

# A view of Django that we leave out, because it looks up tenant models in the control database.
LEFT_OUT = frozenset({"view_on_site"})


class StaffSite(AdminSite):
    """An admin site that audits changes under the staff member's name, instead of using Django's own log."""

    audit_log: type[Model]
    # What registering adds to each admin class.
    adds: tuple[type[StaffAdmin], ...]

    def __init__(self) -> None:
        super().__init__(name="admin")
        # Objects are deleted only on their own page, one at a time and audited.
        self.disable_action("delete_selected")

    def register(self, model_or_iterable: Any, admin_class: type[Any] | None = None, **options: Any) -> None:
        """Register a model with its admin class, which also gets the classes of `adds`, such as `Audited`."""
        assert admin_class is not None and issubclass(admin_class, StaffAdmin)
        bases = (*self.adds, admin_class)
        audited = type(admin_class.__name__, bases, {"__module__": admin_class.__module__})
        super().register(model_or_iterable, audited, **options)

    def admin_view(self, view: Callable[..., Any], cacheable: bool = False) -> Any:
        # Views of a model are methods of its admin class.
        model = getattr(getattr(view, "__self__", None), "model", None)

        def act(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            with (
                acting_as(f"staff:{request.user.get_username()}", operation_id=uuid4().hex),
                wellformed(request, model, kwargs),
            ):
                return self.call(view, request, args, kwargs)

        # Keep the view's attributes, such as `csrf_exempt`, as Django's own wrapper does.
        act.__dict__.update(view.__dict__)
        return super().admin_view(act, cacheable)

    def call(
        self, view: Callable[..., Any], request: HttpRequest, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call a view; every view that `admin_view` wraps is called through this method."""
        return view(request, *args, **kwargs)

    def _call_permission_callback(self, callback: Callable[[HttpRequest], bool] | None, request: HttpRequest) -> bool:
        """Return whether a person may open a menu entry, without the lazy class that the theme would build for it."""
        return callback is None or callback(request)

    def get_urls(self) -> list[URLPattern | URLResolver]:
        return [url for url in super().get_urls() if getattr(url, "name", None) not in LEFT_OUT]

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """Return the apps with their models, each model named as in the menu if it has an entry there."""
        apps: list[Any] = super().get_app_list(request, app_label)
        titles = entry_titles(request)
        for model in (model for app in apps for model in app["models"]):
            model["name"] = titles.get(model["admin_url"], model["name"])
        return apps

    def search(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Answer the search with a list of links. Unfold's own view would share its cache between tenants."""
        return render(request, "admin/search_results.html", context_of(request, menu_entries(request)))

    def audit_url(self, resource_type: str, resource_id: str) -> str:
        """Return the URL of the audit log's entries about one object."""
        page = reverse(f"admin:{self.audit_log._meta.app_label}_{self.audit_log._meta.model_name}_changelist")
        return f"{page}?{urlencode({'resource_type__exact': resource_type, 'resource_id__exact': resource_id})}"

    def anchors_url(self) -> str:
        """Return the URL of the list of anchors, which is on the control site."""
        return control_url("admin:audit_control_auditanchor_changelist")


class Audited(StaffAdmin):
    """Writes an audit entry where Django would write its own log, in the transaction of the change.

    Models without an `audit_noun` get no entry. The entry of a change names the object and the changed fields, with the
    old and new values of those in `audit_values`.
    """

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        fields = sorted(form.changed_data)
        shown = [name for name in fields if name in self.audit_values and name in form.cleaned_data]
        old = (
            {}
            if add
            else {name: self.audit_value(name, form.get_initial_for_field(form.fields[name], name)) for name in shown}
        )
        new = {name: self.audit_value(name, form.cleaned_data[name]) for name in shown}
        found = changes(old, new)
        return {"fields": fields, **({"changes": found} if found else {}), **self.audit_change(form)}

    def log_addition(self, request: HttpRequest, obj: Model, message: Any) -> Any:
        self._record("create", obj, message)

    def log_change(self, request: HttpRequest, obj: Model, message: Any) -> Any:
        if message["fields"]:
            self._record("change", obj, message)

    def log_deletions(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        for obj in queryset:
            columns = {field.name for field in obj._meta.get_fields()}
            stored = stored_objects(obj, [name for name in self.audit_values if name in columns])
            values = {name: plain(self.audit_value(name, value)) for name, value in stored.items()}
            known = {name: value for name, value in values.items() if value not in (None, [])}
            self._record("delete", obj, {"values": known} if known else {})

    def last_change(self, obj: Model) -> tuple[str, datetime] | None:
        site = self.admin_site
        assert isinstance(site, StaffSite)
        entries = site.audit_log._default_manager.filter(resource_type=self.resource_type, resource_id=str(obj.pk))
        last = entries.exclude(action__endswith=".read").order_by("-id").values_list("user_id", "created_at").first()
        return last if last is None else (last[0].removeprefix("staff:"), last[1])

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Redirect to the object's entries in the audit log."""
        site = self.admin_site
        assert isinstance(site, StaffSite)
        return HttpResponseRedirect(site.audit_url(self.resource_type, object_id))

    def get_changelist_formset(self, request: HttpRequest, **kwargs: Any) -> Any:
        """Return the formset of an editable list with labelled inputs: screen readers do not use the column titles."""
        formset = super().get_changelist_formset(request, **kwargs)
        for field in formset.form.base_fields.values():
            field.widget.attrs.setdefault("aria-label", capfirst(str(field.label)))
        return formset

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
                details={"name": str(obj), **self.audit_details(obj), **details},
            )


class Listed(StaffAdmin):
    """Gives a list page the title of its menu entry, which may differ from the model's name."""

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        entry = active_entry(request)
        titled = {"title": entry["title"]} if entry and entry["link"] == request.path else {}
        return super().changelist_view(request, {**titled, **(extra_context or {})})


class ControlSite(SignInPages, StaffSite):
    """The site of the control database: models, servers, tenants, backups, audit logs, users and more."""

    index_template = "admin/control_index.html"
    audit_log = ControlAuditLog
    adds = (Scoped, Audited, Listed)

    def register(self, model_or_iterable: Any, admin_class: type[Any] | None = None, **options: Any) -> None:
        path = getattr(admin_class, "tenant_path", None)
        assert path is not None, f"{admin_class} must say how its rows name their tenant (StaffAdmin.tenant_path)."
        super().register(model_or_iterable, admin_class, **options)

    def call(
        self, view: Callable[..., Any], request: HttpRequest, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        return scoped_view(view, request, args, kwargs)

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        return super().index(request, {**control_home(request), **(extra_context or {})})

    def get_urls(self) -> list[URLPattern | URLResolver]:
        return [path("costs/", self.admin_view(self.costs), name="costs"), *super().get_urls()]

    def costs(self, request: HttpRequest) -> HttpResponse:
        """Show the costs of the tenants whose costs the person may see."""
        if not request.user.has_perm("tenants.view_costs"):
            raise PermissionDenied
        seen = tenants_permitted(request.user, "tenants.view_costs")
        budgets = dict(seen.order_by("id").values_list("id", "monthly_budget_usd"))
        context = self.each_context(request)
        return costs_page(request, context=context, budgets=budgets, using="default", is_fleet=True)

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Redirect to the overview after the login, unless another page was requested."""
        query = request.GET.copy()
        query.setdefault(REDIRECT_FIELD_NAME, reverse("admin:index"))
        request.GET = query  # type: ignore[assignment]
        return super().login(request, extra_context)

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        return own_password_page(request, partial(super().password_change, request, extra_context))


class TenantSite(StaffSite):
    """The site of one tenant: its runs, artifacts, costs, prompts, overrides and audit log.

    The URL names the tenant (`tenants.routing.middleware`).
    """

    index_template = "admin/tenant_index.html"
    audit_log = AuditLog
    adds = (Audited, Listed)

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        return super().index(request, {**tenant_home(request), **(extra_context or {})})

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        context: dict[str, Any] = super().each_context(request)
        active = current_tenant_or_none()
        access = access_open_to(request.user, active.id) if active else None
        if access is not None:
            context["temporary_access"] = access
            context["temporary_access_close"] = control_url("admin:tenants_temporaryaccess_close", access.pk)
        return context

    def get_urls(self) -> list[URLPattern | URLResolver]:
        return [path("costs/", self.admin_view(self.costs), name="costs"), *super().get_urls()]

    def costs(self, request: HttpRequest) -> HttpResponse:
        """Show what this tenant's calls cost."""
        if not request.user.has_perm("runs.view_runcost"):
            raise PermissionDenied
        tenant = current_tenant()
        context = {**self.each_context(request), "runs_url": reverse("admin:runs_runcost_changelist")}
        budgets = {tenant.id: tenant.monthly_budget_usd}
        return costs_page(request, context=context, budgets=budgets, using=tenant.alias, is_fleet=False)

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return HttpResponseRedirect(control_url("admin:login"))

    def logout(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        if request.method == "POST":
            logout(request)
        return HttpResponseRedirect(control_url("admin:index"))

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        return HttpResponseRedirect(control_url("admin:password_change"))


control_site = ControlSite()
control_site.register(LLMProvider, LLMProviderAdmin)
control_site.register(LLMModel, LLMModelAdmin)
control_site.register(StepLLMDefault, StepLLMDefaultAdmin)
control_site.register(DatabaseServer, DatabaseServerAdmin)
control_site.register(Tenant, TenantAdmin)
control_site.register(TenantSchema, TenantSchemaAdmin)
control_site.register(MigrationBatch, MigrationBatchAdmin)
control_site.register(OperationRequest, OperationRequestAdmin)
control_site.register(Approval, ApprovalAdmin)
control_site.register(Backup, BackupAdmin)
control_site.register(Restore, RestoreAdmin)
control_site.register(BaseBackup, BaseBackupAdmin)
control_site.register(Erasure, ErasureAdmin)
control_site.register(ControlAuditLog, ControlAuditLogAdmin)
control_site.register(AuditAnchor, AuditAnchorAdmin)
control_site.register(AuditArchive, AuditArchiveAdmin)
control_site.register(ArchivedAuditLog, ArchivedAuditLogAdmin)
control_site.register(User, UserAdmin)
control_site.register(TenantGroup, TenantGroupAdmin)
control_site.register(TemporaryAccess, TemporaryAccessAdmin)

tenant_site = TenantSite()
tenant_site.register(Run, RunAdmin)
tenant_site.register(Step, StepAdmin)
tenant_site.register(Artifact, ArtifactAdmin)
tenant_site.register(RunCost, RunCostAdmin)
tenant_site.register(Prompt, PromptAdmin)
tenant_site.register(StepOverride, StepOverrideAdmin)
tenant_site.register(AuditLog, AuditLogAdmin)
