"""Staff accounts and their groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from config.site.admin_base import StaffAdmin
from config.site.staff_rights import (
    groups_to_give,
    is_superuser,
    may_manage_group,
    may_manage_user,
    permissions_to_give,
)

if TYPE_CHECKING:
    _UserAdmin = DjangoUserAdmin[User]
    _Mixin = StaffAdmin
else:
    _UserAdmin = DjangoUserAdmin
    _Mixin = object


class _GrantsOnlyOwnRights(_Mixin):
    """Offers and accepts only permissions and groups that grant no more than the staff member has."""

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest | None = None, **kwargs: Any) -> Any:
        assert request is not None  # Django always gives it
        if db_field.name in ("permissions", "user_permissions"):
            kwargs["queryset"] = permissions_to_give(request.user).select_related("content_type")
        elif db_field.name == "groups":
            kwargs["queryset"] = groups_to_give(request.user)
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return super().has_change_permission(request, obj) and self._may_manage(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return super().has_delete_permission(request, obj) and self._may_manage(request, obj)

    def _may_manage(self, request: HttpRequest, obj: Model | None) -> bool:
        if isinstance(obj, User):
            return may_manage_user(request.user, obj)
        return not isinstance(obj, Group) or may_manage_group(request.user, obj)


class UserAdmin(_GrantsOnlyOwnRights, _UserAdmin, StaffAdmin):
    audit_noun = "user"
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        # Both are facts; and a form would drop the fractions of their seconds.
        facts = (*super().get_readonly_fields(request, obj), "last_login", "date_joined")
        return facts if is_superuser(request.user) else (*facts, "is_staff", "is_superuser")

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002
        # Django's view opens no transaction; the change and its audit entry must share one.
        with transaction.atomic(using="default"):
            return super().user_change_password(request, id, form_url)


class GroupAdmin(_GrantsOnlyOwnRights, DjangoGroupAdmin, StaffAdmin):
    audit_noun = "group"
