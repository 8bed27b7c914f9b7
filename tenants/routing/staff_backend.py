"""Who may do what, for Django: passwords are checked as usual, but permissions come from roles; superusers have all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.contrib.auth.backends import ModelBackend

from tenants.access.about import tenant_asked_about
from tenants.access.grants import grants_of
from tenants.models import Tenant
from tenants.routing.active import current_tenant_or_none

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

    Account = User | AnonymousUser


class RolesBackend(ModelBackend):
    """Answers Django's permission checks from roles (`tenants.access.roles`), not from Django's own permissions.

    The tenant in question is the object's, or else the active tenant, or else the one that the page is about. If there
    is none, a permission about tenants is granted if the user has it for any tenant; the page shows only those tenants'
    rows. A permission about the installation needs a role for all tenants. Superusers have every permission.
    """

    def has_perm(self, user_obj: Account, perm: str, obj: Any = None) -> bool:
        grants = grants_of(user_obj)
        return grants is not None and grants.allows(perm, _tenant_of(obj))

    def has_module_perms(self, user_obj: Account, app_label: str) -> bool:
        return any(perm.startswith(f"{app_label}.") for perm in self.get_all_permissions(user_obj))

    def get_all_permissions(self, user_obj: Account, obj: Any = None) -> set[str]:
        grants = grants_of(user_obj)
        return set() if grants is None else grants.permissions(_tenant_of(obj))

    def get_user_permissions(self, user_obj: Account, obj: Any = None) -> set[str]:
        return self.get_all_permissions(user_obj, obj)

    def get_group_permissions(self, user_obj: Account, obj: Any = None) -> set[str]:
        return set()

    async def aget_all_permissions(self, user_obj: Account, obj: Any = None) -> set[str]:
        return await sync_to_async(self.get_all_permissions)(user_obj, obj)

    async def aget_user_permissions(self, user_obj: Account, obj: Any = None) -> set[str]:
        return await self.aget_all_permissions(user_obj, obj)

    async def aget_group_permissions(self, user_obj: Account, obj: Any = None) -> set[str]:
        return set()

    async def ahas_perm(self, user_obj: Account, perm: str, obj: Any = None) -> bool:
        return await sync_to_async(self.has_perm)(user_obj, perm, obj)

    async def ahas_module_perms(self, user_obj: Account, app_label: str) -> bool:
        return await sync_to_async(self.has_module_perms)(user_obj, app_label)

    def with_perm(self, *args: Any, **keywords: Any) -> Any:
        raise NotImplementedError("Roles are for tenants: ask tenants.access.")


def _tenant_of(obj: Any) -> str | None:
    """Return the id of the tenant in question: the one that `obj` is or names, the active one, or the page's.

    `obj` may be a tenant, its id, or a row with a `tenant_id`. Returns None if there is no tenant.
    """
    if isinstance(obj, str):
        return obj
    if isinstance(obj, Tenant):
        return obj.pk
    named: str | None = getattr(obj, "tenant_id", None)
    if named:
        return named
    active = current_tenant_or_none()
    return active.id if active else tenant_asked_about()
