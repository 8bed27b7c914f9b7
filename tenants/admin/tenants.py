"""Admin pages for tenants and their servers. Every change to a tenant is one service call."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Count, Model, OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.enums import ActionVariant
from unfold.widgets import (
    UnfoldAdminPasswordWidget,
    UnfoldAdminTextInputWidget,
)

from config.base.errors import SeoGenError
from config.site.admin_base import (
    NO_TENANT,
    ReadOnlyAdmin,
    StaffAdmin,
    action,
    as_badge,
    as_link,
    coded_lazy,
    finished,
    form_page,
    is_action,
)
from tenants.admin.dialogs import TenantBudgetForm, TenantCreateForm, TenantLimitForm, TenantSuspendForm
from tenants.admin.erasures import erasure_link
from tenants.admin.tenant_operations import TenantOperations, status_is_known, status_of
from tenants.admin.tenant_page import tenant_overview
from tenants.erasure.presentation import phase_name
from tenants.errors import InvalidTenant, TenantExists
from tenants.files.locations import place_at
from tenants.lifecycle.budget import BUDGETS, tenant_budget_set
from tenants.lifecycle.create import tenant_create
from tenants.lifecycle.limit import ENDED, tenant_limit_set
from tenants.lifecycle.server_settings import ServerSettings, server_settings_save
from tenants.lifecycle.setup import server_register
from tenants.lifecycle.suspend import tenant_resume, tenant_suspend
from tenants.models import DatabaseServer, Erasure, Tenant, TenantStatus, database_prefix
from tenants.routing.site_urls import tenant_url
from tenants.servers.admin_url import require_server_url
from tenants.servers.session import ServerSession

# The request attribute that caches the tenants of a page.
SHOWN = "seo_gen_tenants_shown"
STATUS_COLORS = {
    TenantStatus.PROVISIONING: "info",
    TenantStatus.ACTIVE: "success",
    TenantStatus.SUSPENDED: "warning",
    TenantStatus.RESTORING: "info",
    TenantStatus.DELETING: "danger",
    TenantStatus.DELETED: "default",
}


class DatabaseServerForm(forms.ModelForm):  # type: ignore[type-arg]
    """The administrator's URL can be set, but never read back."""

    new_admin_url = forms.CharField(
        label=gettext_lazy("Administrator's URL"),
        required=False,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "off"}),
        help_text=gettext_lazy(
            "URL of the administrator role that config/stack/roles.sql creates:"
            " postgresql://user:password@host:port/postgres. Only TLS parameters are allowed, such"
            " as ?sslmode=verify-full. The URL is stored encrypted and never shown again; leave"
            " empty to keep the current one."
        ),
        error_messages={"required": gettext_lazy("A new server needs an administrator's URL.")},
    )

    class Meta:
        model = DatabaseServer
        fields = ("name", "capacity", "is_default", "is_active", "wal_archive")
        widgets: ClassVar = {"wal_archive": UnfoldAdminTextInputWidget}
        help_texts: ClassVar = {
            "wal_restore_command": coded_lazy(
                gettext_lazy(
                    "For a server whose WAL another tool archives. Set it with `seo-gen cluster set-restore-command`."
                )
            ),
            "wal_archive": gettext_lazy(
                "Where the server's write-ahead log is archived: a folder or s3://bucket/prefix."
            ),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance._state.adding:
            field = self.fields["new_admin_url"]
            field.required = True
            field.help_text = _(
                "URL of the administrator role that config/stack/roles.sql creates:"
                " postgresql://user:password@host:port/postgres. Only TLS parameters are allowed, such as"
                " ?sslmode=verify-full. The URL is stored encrypted and never shown again."
            )

    def clean_wal_archive(self) -> str:
        place: str = self.cleaned_data["wal_archive"].strip()
        if place and not place.startswith("s3://") and not Path(place).is_absolute():
            raise ValidationError(_("Enter an absolute path or s3://bucket/prefix."))
        try:
            place_at(place)
        except SeoGenError as error:
            raise ValidationError(str(error)) from error
        return place

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        url = cleaned.get("new_admin_url", "")
        if url:
            self._require_reachable(cleaned.get("name") or self.instance.name, url)
        return cleaned

    def _get_validation_exclusions(self) -> set[str]:
        """Leave out the check that only one server is the default: saving unmarks the previous one."""
        exclusions: set[str] = super()._get_validation_exclusions()  # type: ignore[misc]
        return exclusions | {"is_default"}

    def _require_reachable(self, name: str, url: str) -> None:
        try:
            require_server_url(url)
            with ServerSession(DatabaseServer(name=name, admin_url=url), database_prefix()):
                pass
        except SeoGenError as error:
            raise ValidationError({"new_admin_url": str(error)}) from error


class DatabaseServerAdmin(StaffAdmin):
    """Only superusers may change servers: this machine connects wherever a server's URL points."""

    audit_noun = "server"
    audit_values = ("name", "capacity", "is_default", "is_active", "wal_archive")
    audit_hidden = ("new_admin_url",)
    audit_resource = "database_server"
    tenant_path = NO_TENANT
    also_watched = ("admin_url",)
    form = DatabaseServerForm
    list_display = ("name", "masked_url", "tenant_count", "capacity", "is_default", "is_active")
    # The restore command runs in a shell, so only `cluster set-restore-command` can set it.
    readonly_fields = ("masked_url", "wal_restore_command", "recovery_verified_at", "created_at")
    fields = (
        *("name", "masked_url", "new_admin_url", "capacity", "is_default", "is_active"),
        *("wal_archive", "wal_restore_command", "recovery_verified_at", "created_at"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[DatabaseServer]:
        servers: QuerySet[DatabaseServer] = super().get_queryset(request)
        return servers.annotate(tenant_count=Count("tenants"))

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        return ("name", *self.readonly_fields) if obj else self.readonly_fields

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        # Nothing is known yet about a server that is being added.
        return self.fields if obj else [name for name in self.fields if name not in self.readonly_fields]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_superuser)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return bool(request.user.is_superuser)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return bool(request.user.is_superuser)

    def save_model(self, request: HttpRequest, obj: Model, form: Any, change: bool) -> None:
        """If a URL was entered, register it, which sets up the server; then save the rest."""
        assert isinstance(obj, DatabaseServer)
        url = form.cleaned_data["new_admin_url"]
        if url:
            obj.admin_url = server_register(name=obj.name, admin_url=url).admin_url
        kept = ServerSettings(
            capacity=obj.capacity, is_default=obj.is_default, is_active=obj.is_active, wal_archive=obj.wal_archive
        )
        server_settings_save(name=obj.name, settings=kept)
        obj._state.adding = False

    @admin.display(description=gettext_lazy("number of tenants"), ordering="tenant_count")
    def tenant_count(self, server: Any) -> int:
        return int(server.tenant_count)

    @admin.display(description=gettext_lazy("address"))
    def masked_url(self, server: DatabaseServer) -> str:
        return server.masked_url


class TenantAdmin(TenantOperations, ReadOnlyAdmin):
    """Read-only except for service calls. Services write their own audit entries."""

    audit_resource = "tenant"
    tenant_path = "id"
    list_display = ("id", "name", "shown_status", "server", "created_at", "site")
    list_filter = ("status", ("server", admin.RelatedOnlyFieldListFilter))
    search_fields = ("id", "name")
    fields = (
        *("id", "name", "shown_status", "site", "server", "masked_url", "identity", "created_at"),
        *("steps_at_a_time", "monthly_budget", "run_budget"),
    )
    actions_detail = (
        {
            "title": gettext_lazy("Backup and restore"),
            "icon": "backup",
            "items": ["back_up", "restore", "undo", "drill"],
        },
        {"title": gettext_lazy("Clone and export"), "icon": "content_copy", "items": ["copy", "export"]},
        {"title": gettext_lazy("Limits"), "icon": "speed", "items": ["limit", "budget"]},
        *("suspend", "resume", "erase"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Tenant]:
        tenants: QuerySet[Tenant] = super().get_queryset(request)
        erasure = Erasure.objects.filter(tenant_id=OuterRef("pk")).values("pk")
        return tenants.annotate(erasure_id=Subquery(erasure[:1])).select_related("server")

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Tenant | None:
        """Read the tenant once for a page: the check of who may see it, the page and its buttons all ask for it."""
        if request.method != "GET":
            return super().get_object(request, object_id, from_field)
        known: dict[str, Tenant | None] = request.__dict__.setdefault(SHOWN, {})
        if object_id not in known:
            tenant = known[object_id] = super().get_object(request, object_id, from_field)
            status_is_known(request, object_id, tenant.status if tenant else None)
        return known[object_id]

    def audit_words(self, name: str, value: object) -> object:
        # A step of an erasure.
        return phase_name(value) if name == "step" else value

    change_form_outer_before_template = "admin/tenant_overview.html"

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        tenant = kwargs.get("obj")
        if isinstance(tenant, Tenant):
            context |= {"overview": tenant_overview(request, tenant)}
        return super().render_change_form(request, context, *args, **kwargs)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("tenants.add_tenant")

    def has_suspend_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return self._may_change_status(request, object_id, TenantStatus.ACTIVE)

    def has_resume_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return self._may_change_status(request, object_id, TenantStatus.SUSPENDED)

    def has_limit_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        """Return whether to offer changes of limit and budgets: not for a tenant that is deleted or being deleted.

        On a POST, the service checks the status.
        """
        if not request.user.has_perm("tenants.change_tenant"):
            return False
        return is_action(request) or status_of(request, object_id) not in (None, *ENDED)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = TenantCreateForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            tenant = self._create(form)
            if tenant is not None:
                messages.success(request, _("Tenant %(id)s was created.") % {"id": tenant.id})
                return HttpResponseRedirect(reverse("admin:tenants_tenant_change", args=[tenant.id]))
        return form_page(
            self,
            request,
            form,
            title=_("Create a tenant"),
            submit=_("Create"),
            explanation=_("The tenant gets its own database and role. This takes a moment."),
        )

    @action(
        description=gettext_lazy("Suspend"),
        permissions=["suspend"],
        variant=ActionVariant.DANGER,
        dialog={
            "title": gettext_lazy("Suspend this tenant?"),
            "description": gettext_lazy("Its site closes at once, and its runs wait. No data is lost."),
            "form_submit_text": gettext_lazy("Suspend"),
            "form_submit_variant": "danger",
            "form_class": TenantSuspendForm,
        },
    )
    def suspend(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        service = partial(tenant_suspend, reason=form.cleaned_data["reason"])
        return self._change(request, object_id, service, _("Tenant %(id)s is suspended."))

    @action(
        description=gettext_lazy("Resume"),
        permissions=["resume"],
        variant=ActionVariant.PRIMARY,
        dialog={
            "title": gettext_lazy("Resume this tenant?"),
            "description": gettext_lazy("Its site reopens and its runs continue, except those that are paused."),
            "form_submit_text": gettext_lazy("Resume"),
        },
    )
    def resume(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        return self._change(request, object_id, tenant_resume, _("Tenant %(id)s is active again."))

    @action(
        description=gettext_lazy("Set limit"),
        permissions=["limit"],
        dialog={
            "title": gettext_lazy("How many of this tenant's steps may run at a time?"),
            "description": gettext_lazy("Its other steps wait. The new limit takes effect after a few seconds."),
            "form_submit_text": gettext_lazy("Set limit"),
            "form_class": TenantLimitForm,
        },
    )
    def limit(self, request: HttpRequest, form: TenantLimitForm, object_id: str) -> HttpResponse:
        service = partial(tenant_limit_set, steps=form.cleaned_data["steps"], expected=(form.stored["steps"],))
        return self._change(request, object_id, service, _("The limit of tenant %(id)s was set."))

    @action(
        description=gettext_lazy("Set budget"),
        permissions=["limit"],
        dialog={
            "title": gettext_lazy("How much may this tenant's calls cost?"),
            "description": gettext_lazy(
                "Before each call, the most that it can cost is reserved. A run pauses if its next call does not fit in"
                " the budget."
            ),
            "form_submit_text": gettext_lazy("Set budget"),
            "form_class": TenantBudgetForm,
        },
    )
    def budget(self, request: HttpRequest, form: TenantBudgetForm, object_id: str) -> HttpResponse:
        budgets = {name: form.cleaned_data[name] for name in BUDGETS}
        service = partial(tenant_budget_set, budgets=budgets, expected=form.stored)
        return self._change(request, object_id, service, _("The budgets of tenant %(id)s were saved."))

    @admin.display(description=gettext_lazy("monthly budget (USD)"))
    def monthly_budget(self, tenant: Tenant) -> str:
        return _budget(tenant.monthly_budget_usd)

    @admin.display(description=gettext_lazy("budget per run (USD)"))
    def run_budget(self, tenant: Tenant) -> str:
        return _budget(tenant.run_budget_usd)

    @admin.display(description=gettext_lazy("steps at a time"))
    def steps_at_a_time(self, tenant: Tenant) -> str | None:
        if tenant.status == TenantStatus.DELETED:
            return None
        if tenant.max_concurrent_steps is not None:
            return str(tenant.max_concurrent_steps)
        return _("%(n)d (default)") % {"n": settings.RUN_TENANT_CONCURRENCY}

    @admin.display(description=gettext_lazy("status"), ordering="status")
    def shown_status(self, tenant: Tenant) -> SafeString:
        return as_badge(tenant.get_status_display(), STATUS_COLORS[TenantStatus(tenant.status)])

    @admin.display(description=gettext_lazy("site or erasure"))
    def site(self, tenant: Any) -> SafeString | None:
        """Return a link to the tenant's erasure if there is one, and otherwise to its site; None if that is closed."""
        if tenant.erasure_id is not None:
            over = tenant.status == TenantStatus.DELETED
            return erasure_link(tenant.erasure_id, _("Certificate of erasure") if over else _("Erasure"))
        if tenant.status != TenantStatus.ACTIVE:
            return None
        return as_link(tenant_url(tenant.id, "admin:index"), _("Open"))

    @admin.display(description=gettext_lazy("database"))
    def masked_url(self, tenant: Tenant) -> str | None:
        return tenant.masked_url or None

    def _create(self, form: TenantCreateForm) -> Tenant | None:
        given = form.cleaned_data
        try:
            return tenant_create(
                name=given["name"],
                tenant_id=given["tenant_id"] or None,
                server_name=given["server"].name if given["server"] else None,
                # A page must not wait as long as a migration can take.
                fleet_wait_s=settings.OPERATION_WAIT_S,
            )
        except (InvalidTenant, TenantExists) as error:
            # Its hint names options of the command.
            form.add_error("tenant_id" if given["tenant_id"] else "name", error.message)
            return None
        except SeoGenError as error:
            form.add_error(None, str(error))
            return None

    def _change(self, request: HttpRequest, tenant_id: str, service: Callable[..., Tenant], done: str) -> HttpResponse:
        try:
            service(tenant_id=tenant_id)
        except SeoGenError as error:
            messages.error(request, str(error))
        else:
            messages.success(request, done % {"id": tenant_id})
        return finished(request, reverse("admin:tenants_tenant_change", args=[tenant_id]))

    def _may_change_status(self, request: HttpRequest, object_id: object, status: TenantStatus) -> bool:
        """Return whether to offer the change: only for a tenant with that status.

        On a POST, the service checks the status.
        """
        if not request.user.has_perm("tenants.change_tenant"):
            return False
        return is_action(request) or status_of(request, object_id) == status


def _budget(amount: Decimal | None) -> str:
    return _("none") if amount is None else f"{amount.normalize():f}"
