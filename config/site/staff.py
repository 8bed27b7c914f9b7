"""Admin pages for staff accounts, their roles, and the groups of tenants for which roles are given."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.contrib.admin.widgets import RelatedFieldWidgetWrapper
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Count, Model, QuerySet
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from config.site.admin_base import NO_TENANT, OWN_SCOPE, StaffAdmin, UnfoldTabularInline
from config.site.staff_rights import (
    Administrated,
    administrated_by,
    is_superuser,
    may_manage_user,
    users_seen_by,
)
from tenants.access.assign import record_roles, role_in_words, roles_of
from tenants.access.explained import roles_explained
from tenants.models import RoleAssignment, RoleScope, TenantGroup

if TYPE_CHECKING:
    _UserAdmin = DjangoUserAdmin[User]
    _FormSet = BaseInlineFormSet[RoleAssignment, User, forms.ModelForm[RoleAssignment]]
    _Form = forms.ModelForm[RoleAssignment]
else:
    _UserAdmin = DjangoUserAdmin
    _FormSet = BaseInlineFormSet
    _Form = forms.ModelForm


class RoleForm(_Form):
    """One role. The group or tenant is required if the scope needs it, and dropped if not."""

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        scope = cleaned.get("scope")
        for name, needed_by, message in (
            ("group", RoleScope.GROUP, _("Choose the group of tenants.")),
            ("tenant", RoleScope.TENANT, _("Choose the tenant.")),
        ):
            if scope != needed_by:
                cleaned[name] = None
            elif cleaned.get(name) is None and name not in self.errors:
                self.add_error(name, message)
        return cleaned


class RoleFormSet(_FormSet):
    """Accepts only roles for tenants that the giver administers; requires one, unless they administer all tenants."""

    administrated: Administrated

    def clean(self) -> None:
        super().clean()
        kept = 0
        for form in self.forms:
            if not form.is_valid() or (not form.has_changed() and form.instance.pk is None):
                continue
            if form in self.deleted_forms:
                continue
            kept += 1
            given = form.instance
            if not self.administrated.covers(scope=given.scope, group_id=given.group_id, tenant_id=given.tenant_id):
                raise ValidationError(_("You can give roles only for tenants that you administer."))
        if not kept and not self.administrated.everything:
            raise ValidationError(_("Give the user at least one role for your tenants."))


class RoleInline(UnfoldTabularInline):
    model = RoleAssignment
    form = RoleForm
    formset = RoleFormSet
    fields = ("role", "scope", "group", "tenant")
    autocomplete_fields = ("tenant",)
    extra = 0
    hide_title = True
    template_before = "admin/roles_held.html"
    verbose_name_plural = gettext_lazy("roles")

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        widget = field.widget if field else None
        if field is not None:
            # A screen reader does not take the columns' titles as labels.
            for one in (widget, getattr(widget, "widget", None)):
                if one is not None:
                    one.attrs["aria-label"] = capfirst(str(field.label))
        if isinstance(widget, RelatedFieldWidgetWrapper):
            # Groups and tenants have their own pages, as in `StaffAdmin`.
            widget.can_add_related = widget.can_change_related = False
            widget.can_delete_related = widget.can_view_related = False
        return field

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        administrated = administrated_by(request.user)
        formset = super().get_formset(request, obj, **kwargs)
        return type(formset.__name__, (formset,), {"administrated": administrated})

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        administrated = administrated_by(request.user)
        if db_field.name == "group":
            kwargs["queryset"] = administrated.all_groups()
        elif db_field.name == "tenant":
            kwargs["queryset"] = administrated.all_tenants()
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def formfield_for_choice_field(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "scope" and not administrated_by(request.user).everything:
            kwargs["choices"] = [("", "---------"), *RoleScope.choices[1:]]
        return super().formfield_for_choice_field(db_field, request, **kwargs)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return request.user.has_perm("auth.view_user")

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self._may_give(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self._may_give(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self._may_give(request, obj)

    def _may_give(self, request: HttpRequest, user: Model | None) -> bool:
        """Return whether the person may change the roles of the page's user.

        Except for superusers, no one may change their own roles, or those of a user whom they do not manage.
        """
        if not request.user.has_perm("auth.change_user"):
            return False
        if not isinstance(user, User) or user.pk is None or is_superuser(request.user):
            return True
        return user.pk != request.user.pk and may_manage_user(request.user, user)


class _ExplainsRoles(StaffAdmin):
    """Adds a table of what each role allows, below the form of the page."""

    change_form_after_template = "admin/roles_explained.html"

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        explained = {"roles_explained": roles_explained()}
        return super().changeform_view(request, object_id, form_url, {**explained, **(extra_context or {})})


class UserAddForm(UserCreationForm):  # type: ignore[misc]
    """Marks the passwords as required: Django requires them only in `clean`, unless the account has no password."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("password1", "password2"):
            field = self.fields[name]
            if not field.required:
                field.label = format_html('{}<span class="text-red-600 dark:text-red-500">*</span>', field.label)


class UserAdmin(_UserAdmin, _ExplainsRoles):  # type: ignore[misc]
    audit_noun = "user"
    # Limited to the users that the person manages (`config.site.staff_rights`).
    tenant_path = OWN_SCOPE
    audit_values = ("username", "is_active", "is_staff", "is_superuser")
    # Entries can never be changed, so they must not contain personal data.
    audit_hidden = (
        *("first_name", "last_name", "email", "password", "password1", "password2", "usable_password"),
        *("last_login", "date_joined"),
    )
    form = UserChangeForm
    add_form = UserAddForm
    change_password_form = AdminPasswordChangeForm
    inlines = (RoleInline,)
    list_display = ("username", "first_name", "last_name", "shown_roles", "is_active", "last_login")
    list_filter = ("is_active", "role_assignments__role")
    filter_horizontal = ()
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        (gettext_lazy("Personal info"), {"fields": ("first_name", "last_name", "email")}),
        (gettext_lazy("Status"), {"fields": ("is_active", "is_staff", "is_superuser")}),
        (gettext_lazy("Important dates"), {"fields": ("last_login", "date_joined")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        # Rows that the person may not see must not exist for them, so Django's own manager is not used.
        return users_seen_by(request.user).prefetch_related("role_assignments__group").order_by("username")

    def audit_names(self, request: HttpRequest, ids: Collection[str]) -> dict[str, str]:
        keys = [one for one in ids if one.isdecimal()]
        users = users_seen_by(request.user).filter(pk__in=keys) if keys else ()
        return {str(user.pk): user.get_username() for user in users}

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        # Both are facts, not settings. A form would also drop the fractions of their seconds.
        facts = (*super().get_readonly_fields(request, obj), "last_login", "date_joined")
        return facts if is_superuser(request.user) else (*facts, "is_staff", "is_superuser")

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_change_permission(request, obj) and _may_manage(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_delete_permission(request, obj) and _may_manage(request, obj)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        # A new account can do nothing until it has a role, so it may log in at once.
        if not change:
            obj.is_staff = True
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        before = roles_of(form.instance.pk)
        super().save_related(request, form, formsets, change)
        record_roles(form.instance, before)

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002
        if str(request.user.pk) == id:
            # That page asks for the current password; this one would let an open screen set a new one.
            return HttpResponseRedirect(reverse("admin:password_change"))
        # Django's view opens no transaction; the change and its audit entry must share one.
        with transaction.atomic(using="default"):
            return super().user_change_password(request, id, form_url)

    def audit_words(self, name: str, value: object) -> object:
        if name == "roles" and isinstance(value, list):
            return [role_in_words(one) for one in value]
        return super().audit_words(name, value)

    @admin.display(description=gettext_lazy("roles"))
    def shown_roles(self, user: Any) -> SafeString | str | None:
        if user.is_superuser:
            return _("superuser: may do everything")
        lines = ((assignment.get_role_display(), assignment.place) for assignment in user.role_assignments.all())
        return format_html_join("", "<div>{}: {}</div>", lines) or None


class TenantGroupAdmin(_ExplainsRoles):
    """Only administrators of all tenants change groups: a role for a group also holds for each tenant that joins it."""

    audit_noun = "tenant_group"
    # `audit_change` names the tenants added and removed.
    audit_values = ("name",)
    audit_hidden = ("tenants",)
    tenant_path = NO_TENANT
    list_display = ("name", "tenant_count")
    search_fields = ("name",)
    fields = ("name", "tenants")
    autocomplete_fields = ("tenants",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[TenantGroup]:
        groups: QuerySet[TenantGroup] = super().get_queryset(request)
        return groups.annotate(tenant_count=Count("tenants"))

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_manytomany(db_field, request, **kwargs)
        # Each chosen tenant has its own cross; select2's cross for all of them is not an item of the list.
        widget: Any = field.widget if field else None
        if widget is not None:
            chosen = getattr(widget, "widget", widget)
            chosen.is_required = True
            # Django's own attribute, which is empty, would replace one of the widget's.
            attrs_of = chosen.build_attrs
            chosen.build_attrs = lambda *given, **kw: {
                **attrs_of(*given, **kw),
                "data-placeholder": _("Choose tenants"),
            }
        return field

    def audit_details(self, obj: TenantGroup) -> dict[str, object]:
        return {"name": obj.name}

    def audit_change(self, form: Any) -> dict[str, object]:
        if "tenants" not in form.changed_data:
            return {}
        before = {str(tenant) for tenant in form.initial.get("tenants", [])}
        after = {tenant.pk for tenant in form.cleaned_data["tenants"]}
        return {"added": sorted(after - before), "removed": sorted(before - after)}

    @admin.display(description=gettext_lazy("number of tenants"), ordering="tenant_count")
    def tenant_count(self, group: Any) -> int:
        return int(group.tenant_count)


def _may_manage(request: HttpRequest, user: User | None) -> bool:
    return user is None or may_manage_user(request.user, user)
