"""The roles of one member of staff, read once per request, and which tenants and permissions they give."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from config.base.databases import CONTROL
from tenants.access.roles import ABOUT_TENANTS, ABOUT_THE_INSTALLATION, is_about_tenants, roles_with
from tenants.models import Role, RoleAssignment, RoleScope, TemporaryAccess, Tenant, TenantGroup

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

# The attribute of a user that caches the grants. Each request loads its user again, so changes count from the next one.
CACHE = "_seo_gen_grants"
# The roles that may open other tenants for a reason.
OPENERS = frozenset({Role.OPERATOR.value, Role.ADMINISTRATOR.value})


class Grants:
    """A person's roles, separated into those for everything (all tenants and the installation), groups and tenants."""

    def __init__(self, user_id: int, *, has_everything: bool) -> None:
        self.has_everything = has_everything
        self.everything: set[str] = set()
        self.groups: dict[str, set[int]] = defaultdict(set)
        self.tenants: dict[str, set[str]] = defaultdict(set)
        # Tenants that were opened for a reason. The roles they were opened with are in `tenants` too.
        self.opened: set[str] = set()
        self._groups_of: dict[str, set[int]] = {}
        if not has_everything:
            self._load(user_id)

    def _load(self, user_id: int) -> None:
        assigned = RoleAssignment.objects.using(CONTROL).filter(user_id=user_id)
        for role, scope, group, tenant in assigned.values_list("role", "scope", "group_id", "tenant_id"):
            if scope == RoleScope.ALL:
                self.everything.add(role)
            elif scope == RoleScope.GROUP:
                self.groups[role].add(group)
            else:
                self.tenants[role].add(tenant)
        self._assigned = set().union(*self.tenants.values())
        if OPENERS & self.roles_anywhere():
            for role, tenant in access_open_now().filter(user_id=user_id).values_list("role", "tenant_id"):
                self.tenants[role].add(tenant)
                self.opened.add(tenant)

    def roles_for(self, tenant_id: str) -> set[str]:
        """Return the roles that the person has for one tenant; none for a superuser, whose roles are not read."""
        held = self.everything | {role for role, ids in self.tenants.items() if tenant_id in ids}
        wanted = {role for role in self.groups if role not in held}
        if wanted:
            groups = self._groups_with(tenant_id)
            held |= {role for role in wanted if self.groups[role] & groups}
        return held

    def is_assigned(self, tenant_id: str) -> bool:
        """Return whether an assigned role covers the tenant; temporary access does not count.

        Not for superusers, whose roles are not read.
        """
        return bool(self.everything or tenant_id in self._assigned or (self.groups and self._groups_with(tenant_id)))

    def roles_anywhere(self) -> set[str]:
        return self.everything | set(self.groups) | set(self.tenants)

    def allows(self, permission: str, tenant_id: str | None) -> bool:
        """Return whether the person has a permission.

        One about tenants is checked for `tenant_id` or, if that is None, for any tenant.
        """
        if self.has_everything:
            return True
        if not is_about_tenants(permission):
            return not roles_with(permission).isdisjoint(self.everything)
        held = self.roles_anywhere() if tenant_id is None else self.roles_for(tenant_id)
        return not roles_with(permission).isdisjoint(held)

    def permissions(self, tenant_id: str | None) -> set[str]:
        """Return the permissions for which `allows` returns True; for a superuser, only those that some role has."""
        if self.has_everything:
            return set().union(*ABOUT_TENANTS.values(), *ABOUT_THE_INSTALLATION.values())
        held = self.roles_anywhere() if tenant_id is None else self.roles_for(tenant_id)
        about_tenants = (ABOUT_TENANTS[role] for role in held if role in ABOUT_TENANTS)
        others = (ABOUT_THE_INSTALLATION[role] for role in self.everything if role in ABOUT_THE_INSTALLATION)
        return set().union(*about_tenants, *others)

    def tenant_ids(self, *permissions: str) -> QuerySet[Tenant, str] | None:
        """Return the ids of the tenants for which one of the permissions is held, tombstones included; None means all.

        Without permissions, any role counts.
        """
        roles = frozenset().union(*map(roles_with, permissions)) if permissions else self.roles_anywhere()
        if self.has_everything or self.everything & roles:
            return None
        tenants = Tenant.objects.using(CONTROL)
        ids = set().union(*(self.tenants[role] for role in roles if role in self.tenants))
        groups = set().union(*(self.groups[role] for role in roles if role in self.groups))
        if not groups:
            return tenants.filter(pk__in=ids).values_list("pk", flat=True)
        members = TenantGroup.tenants.through.objects.using(CONTROL).filter(tenantgroup_id__in=groups)
        return tenants.filter(Q(pk__in=ids) | Q(pk__in=members.values("tenant_id"))).values_list("pk", flat=True)

    def _groups_with(self, tenant_id: str) -> set[int]:
        """Return the ids of the groups that contain the tenant and for which the user holds a role."""
        if tenant_id not in self._groups_of:
            members = TenantGroup.tenants.through.objects.using(CONTROL).filter(
                tenant_id=tenant_id, tenantgroup_id__in=_all_of(self.groups.values())
            )
            self._groups_of[tenant_id] = set(members.values_list("tenantgroup_id", flat=True))
        return self._groups_of[tenant_id]


def grants_of(user: User | AnonymousUser) -> Grants | None:
    """Return the roles of an active user, cached with the user; None for visitors and inactive users."""
    if not user.is_active or user.pk is None:
        return None
    grants: Grants | None = getattr(user, CACHE, None)
    if grants is None:
        grants = Grants(user.pk, has_everything=user.is_superuser)
        setattr(user, CACHE, grants)
    return grants


def access_open_now() -> QuerySet[TemporaryAccess]:
    """Return the temporary access that is open now, of people whose roles would still let them open a tenant."""
    openers = RoleAssignment.objects.using(CONTROL).filter(user=OuterRef("user"), role__in=OPENERS)
    return TemporaryAccess.objects.using(CONTROL).filter(
        Exists(openers), recorded_at__isnull=False, closed_at__isnull=True, expires_at__gt=Now()
    )


def access_open_to(user: User | AnonymousUser, tenant_id: str) -> TemporaryAccess | None:
    """Return the temporary access by which `user` sees the tenant; None if none is open, or if `user` needs none."""
    grants = grants_of(user)
    if grants is None or grants.has_everything or grants.is_assigned(tenant_id):
        return None
    return access_open_now().filter(user=user.pk, tenant=tenant_id).order_by("-expires_at").first()


def _all_of(sets: Iterable[set[int]]) -> set[int]:
    return set().union(*sets)
