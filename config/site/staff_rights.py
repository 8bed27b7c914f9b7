"""What a member of staff may change about another: nothing that grants more than they have themselves.

Django lets anyone with `auth.change_user` become a superuser, or set a superuser's password. Here only a superuser may
do that. Administrators manage the users whose roles are all for tenants that they administer, and can give only
roles for those tenants. Temporary access counts on one side only: it makes no one an administrator of the tenant. But a
user who has it may see a tenant that their administrator may not, so until it ends, they are managed only by those who
administer that tenant too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.contrib.auth.models import User
from django.db.models import Exists, OuterRef, Q, QuerySet

from tenants.access.grants import access_open_now
from tenants.models import Role, RoleAssignment, RoleScope, Tenant, TenantGroup

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser

    Account = User | AnonymousUser


def is_superuser(user: Account) -> bool:
    return user.is_active and user.is_superuser


@dataclass(frozen=True)
class Administrated:
    """The tenants that someone administers: all of them, or those of certain groups and individual tenants."""

    everything: bool
    groups: frozenset[int] = frozenset()
    tenants: frozenset[str] = frozenset()

    def all_groups(self) -> QuerySet[TenantGroup]:
        groups = TenantGroup.objects.using("default")
        return groups.all() if self.everything else groups.filter(pk__in=self.groups)

    def all_tenants(self) -> QuerySet[Tenant]:
        tenants = Tenant.objects.using("default")
        if self.everything:
            return tenants.all()
        members = TenantGroup.tenants.through.objects.using("default").filter(tenantgroup_id__in=self.groups)
        return tenants.filter(Q(pk__in=self.tenants) | Q(pk__in=members.values("tenant_id")))

    def covers(self, *, scope: str, group_id: int | None, tenant_id: str | None) -> bool:
        """Return whether a role for this scope reaches only these tenants.

        A group counts only if it is administered as a group, since other tenants may be added to it later.
        """
        if self.everything:
            return True
        if scope == RoleScope.GROUP:
            return group_id in self.groups
        return scope == RoleScope.TENANT and self.all_tenants().filter(pk=tenant_id).exists()


def administrated_by(user: Account) -> Administrated:
    if is_superuser(user):
        return Administrated(everything=True)
    held = RoleAssignment.objects.using("default").filter(user=user.pk, role=Role.ADMINISTRATOR)
    if not user.is_active or user.pk is None:
        held = held.none()
    rows = list(held.values_list("scope", "group_id", "tenant_id"))
    return Administrated(
        everything=any(scope == RoleScope.ALL for scope, _group, _tenant in rows),
        groups=frozenset(group for _scope, group, _tenant in rows if group is not None),
        tenants=frozenset(tenant for _scope, _group, tenant in rows if tenant is not None),
    )


def users_managed_by(user: Account) -> QuerySet[User]:
    """Return the users that `user` may change and delete, and whose passwords they may set.

    Anyone who sets a password can log in with it, so the other's rights must all be rights of `user`. Someone without
    any role is managed by those who administer all tenants, since no one else can tell whose colleague they are.
    """
    users = User.objects.using("default")
    if is_superuser(user):
        return users.all()
    administrated = administrated_by(user)
    others = users.filter(is_superuser=False)
    if administrated.everything:
        return others
    tenants = administrated.all_tenants().values("pk")
    inside = Q(scope=RoleScope.GROUP, group__in=administrated.groups) | Q(scope=RoleScope.TENANT, tenant__in=tenants)
    roles = RoleAssignment.objects.using("default").filter(user=OuterRef("pk"))
    opened = access_open_now().filter(user=OuterRef("pk")).exclude(tenant__in=tenants)
    return others.filter(Exists(roles.filter(inside)), ~Exists(roles.exclude(inside)), ~Exists(opened))


def may_manage_user(user: Account, other: User) -> bool:
    # Rows are read again, since a form in validation has already modified `other`.
    return users_managed_by(user).filter(pk=other.pk).exists()


def users_seen_by(user: Account) -> QuerySet[User]:
    """Return the users that `user` sees: themselves and those they manage; everyone if they administer all tenants."""
    if administrated_by(user).everything:
        return User.objects.using("default").all()
    return User.objects.using("default").filter(Q(pk__in=users_managed_by(user).values("pk")) | Q(pk=user.pk))
