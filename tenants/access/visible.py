"""The tenants that a member of staff may see, or has a permission for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.models import QuerySet

from config.base.databases import CONTROL
from tenants.access.grants import Grants, grants_of
from tenants.access.roles import roles_with
from tenants.models import Tenant, TenantGroup
from tenants.selectors import tenants_existing

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User


def tenants_visible(user: User | AnonymousUser) -> QuerySet[Tenant]:
    """Return the tenants that `user` may see, of every status except deleted; none for anyone but active staff."""
    return tenants_permitted(user)


def tenants_permitted(user: User | AnonymousUser, *permissions: str) -> QuerySet[Tenant]:
    """Return the tenants for which `user` has one of the permissions, or any role if none is given; no tombstones."""
    grants = grants_of(user)
    if grants is None or not user.is_staff:
        return Tenant.objects.none()
    ids = grants.tenant_ids(*permissions)
    return tenants_existing() if ids is None else tenants_existing().filter(pk__in=ids)


def groups_permitted(user: User | AnonymousUser, permission: str) -> QuerySet[TenantGroup]:
    """Return the groups for which `user` has the permission.

    It comes from a role for the group or for all tenants; a superuser has it for every group.
    """
    grants, roles = grants_of(user), roles_with(permission)
    groups = TenantGroup.objects.using(CONTROL).order_by("name")
    if grants is None or not user.is_staff:
        return groups.none()
    if grants.has_everything or grants.everything & roles:
        return groups
    return groups.filter(pk__in=set().union(*(grants.groups[role] for role in roles if role in grants.groups)))


def is_permitted(user: User | AnonymousUser, permission: str, tenant_id: str) -> bool:
    """Return whether `user` has the permission for the tenant; False if there is no such tenant, or only a tombstone.

    With "" as id, return whether `user` has it for all tenants: by a role for all tenants, or as a superuser.
    """
    grants = grants_of(user)
    if grants is None or not user.is_staff:
        return False
    if not tenant_id:
        return grants.has_everything or not roles_with(permission).isdisjoint(grants.everything)
    return tenants_permitted(user, permission).filter(pk=tenant_id).exists()


def sees_tenant(user: User | AnonymousUser, tenant_id: str) -> bool:
    """Return whether `user` may see the tenant with this id; whether the tenant exists is not checked."""
    grants = grants_of(user)
    if grants is None or not user.is_staff:
        return False
    return grants.has_everything or bool(grants.roles_for(tenant_id))


def still_sees_tenant(user_id: int | None, tenant_id: str) -> bool:
    """Return whether the user may see the tenant now, without any cache: for responses that are slow to send."""
    user = _user_now(user_id)
    return user is not None and sees_tenant(user, tenant_id)


def is_still_permitted(user_id: int | None, permission: str, tenant_id: str) -> bool:
    """Return what `is_permitted` returns now, without any cache."""
    user = _user_now(user_id)
    return user is not None and is_permitted(user, permission, tenant_id)


def _user_now(user_id: int | None) -> User | None:
    from django.contrib.auth.models import User

    if user_id is None:
        return None
    return User.objects.using("default").filter(pk=user_id, is_active=True, is_staff=True).first()


def sees_all_tenants(user: User | AnonymousUser) -> bool:
    """Return whether any role of `user` is for all tenants, or the account is a superuser's."""
    grants = grants_of(user)
    return grants is not None and (grants.has_everything or bool(grants.everything))


__all__ = [
    "Grants",
    "groups_permitted",
    "is_permitted",
    "is_still_permitted",
    "sees_all_tenants",
    "sees_tenant",
    "still_sees_tenant",
    "tenants_permitted",
    "tenants_visible",
]
