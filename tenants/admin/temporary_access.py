"""Admin pages for temporary access: open a tenant without a role for it, and see which tenants were opened to whom."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.validators import MinLengthValidator, RegexValidator
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from config.base.errors import SeoGenError
from config.base.times import to_minute
from config.site.admin_base import OWN_SCOPE, LineField, ReadOnlyAdmin, action, as_badge, finished, form_page
from tenants.access.grants import grants_of
from tenants.access.visible import sees_all_tenants
from tenants.lifecycle.temporary_access import access_close, access_open, roles_to_open_with
from tenants.models import TemporaryAccess
from tenants.naming import ID_MAX_LENGTH, ID_PATTERN
from tenants.routing.site_urls import tenant_url

REASON_MIN, REASON_MAX = 10, 500


class OpenTenantForm(forms.Form):
    tenant_id = LineField(
        label=gettext_lazy("Tenant ID"),
        max_length=ID_MAX_LENGTH,
        validators=[
            RegexValidator(ID_PATTERN, gettext_lazy("Use only a-z, 0-9 and -, starting with a letter or digit."))
        ],
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}),
        help_text=gettext_lazy("The full id, as in the address of the tenant's site."),
    )
    role = forms.ChoiceField(
        label=gettext_lazy("Role"),
        widget=UnfoldAdminSelectWidget,
        help_text=gettext_lazy("Choose the least privileged role that is enough for the task."),
    )
    reason = LineField(
        label=gettext_lazy("Reason"),
        max_length=REASON_MAX,
        validators=[MinLengthValidator(REASON_MIN)],
        widget=UnfoldAdminTextInputWidget,
        help_text=gettext_lazy("At least 10 characters, such as a ticket number and its title. Kept in the audit log."),
    )

    def __init__(self, *args: Any, roles: list[Any], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["role"].choices = [(role.value, role.label) for role in roles]  # type: ignore[attr-defined]


class TemporaryAccessAdmin(ReadOnlyAdmin):
    """Open and close temporary access to tenants. Staff see the access to tenants that they may view, and their own."""

    audit_resource = "tenant"
    tenant_path = OWN_SCOPE
    list_display = ("opened_at", "user_name", "shown_tenant", "role", "reason", "expires_at", "state")
    list_filter = ("role", "opened_at")
    search_fields = ("=tenant__id", "=user_name")
    search_help_text = gettext_lazy("Full tenant id or user name")
    fields = (("user_name", "shown_tenant", "role"), "reason", ("opened_at", "expires_at", "ended_at"), "state")
    actions_detail = ("close",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[TemporaryAccess]:
        rows: QuerySet[TemporaryAccess] = super().get_queryset(request).filter(recorded_at__isnull=False)
        grants = grants_of(request.user)
        ids = grants.tenant_ids("tenants.view_temporaryaccess") if grants else TemporaryAccess.objects.none()
        return rows if ids is None else rows.filter(Q(tenant__in=ids) | Q(user=request.user.pk))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("tenants.open_other_tenant") and not sees_all_tenants(request.user)

    def has_close_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        """Return whether the person may close the access: their own, or any to a tenant whose users they may change.

        Closing is offered only while the access is open.
        """
        row = self.get_object(request, str(object_id)) if object_id else None
        if row is None or _state(row) != "open":
            return request.method == "POST" and row is not None and self._may_close(request, row)
        return self._may_close(request, row)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        user: Any = request.user
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = OpenTenantForm(request.POST or None, roles=roles_to_open_with(user))
        if request.method == "POST" and form.is_valid():
            given = form.cleaned_data
            try:
                access_open(user=user, tenant_id=given["tenant_id"], role=given["role"], reason=given["reason"])
            except SeoGenError as error:
                form.add_error(None, str(error))
            else:
                return HttpResponseRedirect(tenant_url(given["tenant_id"], "admin:index"))
        return form_page(
            self,
            request,
            form,
            title=_("Open another tenant"),
            submit=_("Open for an hour"),
            explanation=_(
                "This gives you access for one hour to a tenant that you have no role for. What you enter is recorded"
                " beforehand, whether or not the tenant exists."
            ),
        )

    @action(
        description=gettext_lazy("Close now"),
        permissions=["close"],
        dialog={
            "title": gettext_lazy("Close this access now?"),
            "description": gettext_lazy(
                "The tenant's pages close at once for this person, who can open the tenant again by giving a reason."
            ),
            "form_submit_text": gettext_lazy("Close access"),
        },
    )
    def close(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        row = access_close(access_id=int(object_id))
        messages.success(
            request,
            _("The temporary access of %(user)s to tenant %(id)s has ended.")
            % {"id": row.tenant_id, "user": row.user_name},
        )
        return finished(request, reverse("admin:tenants_temporaryaccess_changelist"))

    @admin.display(description=gettext_lazy("tenant"), ordering="tenant_id")
    def shown_tenant(self, row: TemporaryAccess) -> str:
        return row.tenant_id

    @admin.display(description=gettext_lazy("closed at"))
    def ended_at(self, row: TemporaryAccess) -> str | None:
        return to_minute(row.closed_at) if row.closed_at else None

    @admin.display(description=gettext_lazy("status"))
    def state(self, row: TemporaryAccess) -> SafeString:
        match _state(row):
            case "closed":
                return as_badge(_("closed early"), "info")
            case "open":
                return as_badge(_("open now"), "warning")
        return as_badge(_("expired"), "info")

    def _may_close(self, request: HttpRequest, row: TemporaryAccess) -> bool:
        return row.user_id == request.user.pk or request.user.has_perm("auth.change_user", row)


def _state(row: TemporaryAccess) -> str:
    if row.closed_at is not None:
        return "closed"
    return "open" if row.expires_at > timezone.now() else "expired"
