"""Staff accounts and their groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from config.admin_base import StaffAdmin

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    _UserAdmin = DjangoUserAdmin[User]
else:
    _UserAdmin = DjangoUserAdmin


class UserAdmin(_UserAdmin, StaffAdmin):
    audit_noun = "user"
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002
        # Django's view of its own opens no transaction; the audit entry must be in one with the change.
        with transaction.atomic(using="default"):
            return super().user_change_password(request, id, form_url)


class GroupAdmin(DjangoGroupAdmin, StaffAdmin):
    audit_noun = "group"
