"""Give a member of staff a role, take a role back, and list the roles of staff."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils.translation import gettext as _

from audit.log.entries import record
from audit.log.values import changes
from config.base.databases import CONTROL
from config.base.errors import SeoGenError
from tenants.models import Role, RoleAssignment, RoleScope, TenantGroup
from tenants.selectors import tenant_get

if TYPE_CHECKING:
    from datetime import datetime

    from django.contrib.auth.models import User


class InvalidRole(SeoGenError):
    """There is no such role, or no such group of tenants."""

    code = "role_invalid"


class StaffDocument(TypedDict):
    """A member of staff; `roles` are as in audit entries, such as "editor group Tokyo"."""

    username: str
    active: bool
    superuser: bool
    roles: list[str]
    last_login: datetime | None


def staff_documents() -> list[StaffDocument]:
    """Return all accounts of staff, including inactive ones, by name."""
    users = get_user_model().objects.using(CONTROL).filter(is_staff=True).order_by("username")
    return [
        {
            "username": user.get_username(),
            "active": user.is_active,
            "superuser": user.is_superuser,
            "roles": sorted(map(_recorded, user.role_assignments.all())),
            "last_login": user.last_login,
        }
        for user in users.prefetch_related("role_assignments__group")
    ]


def role_grant(*, user: User, role: str, group: str | None = None, tenant_id: str | None = None) -> bool:
    """Give the role for a group, for a tenant, or else for all tenants; return False if the user had it already.

    Raises `InvalidRole` or `UnknownTenant`.
    """
    place = _place(role, group, tenant_id)
    with transaction.atomic(using=CONTROL):
        before = roles_of(user.pk)
        _assignment, is_new = RoleAssignment.objects.using(CONTROL).get_or_create(user=user, role=role, **place)
        if is_new:
            record_roles(user, before)
    return is_new


def role_revoke(*, user: User, role: str, group: str | None = None, tenant_id: str | None = None) -> bool:
    """Take back the role for the group, for the tenant, or else for all; return False if the user did not have it.

    The change takes effect with the user's next request. Raises `InvalidRole` or `UnknownTenant`.
    """
    place = _place(role, group, tenant_id)
    with transaction.atomic(using=CONTROL):
        before = roles_of(user.pk)
        removed, _rows = RoleAssignment.objects.using(CONTROL).filter(user=user, role=role, **place).delete()
        if removed:
            record_roles(user, before)
    return bool(removed)


def roles_of(user_id: int) -> list[str]:
    """Return a user's roles, sorted, as audit entries hold them, such as "editor group Tokyo"."""
    assigned = RoleAssignment.objects.using(CONTROL).filter(user_id=user_id).select_related("group")
    return sorted(map(_recorded, assigned))


def record_roles(user: User, before: list[str]) -> None:
    """Record how a user's roles differ from `before`, if they do, in the transaction that changed them."""
    after = roles_of(user.pk)
    if before != after:
        record(
            using=CONTROL,
            action="user.roles",
            resource_type="user",
            resource_id=str(user.pk),
            details={"name": user.get_username(), "changes": changes({"roles": before}, {"roles": after})},
        )


def role_in_words(recorded: str) -> str:
    """Return a role of an audit entry as staff read it, such as "editor: Tokyo" for "editor group Tokyo".

    Text that does not begin with a role is returned unchanged.
    """
    role, _space, place = recorded.partition(" ")
    if role not in Role.values:
        return recorded
    name = RoleScope.ALL.label if place == RoleScope.ALL else place.partition(" ")[2]
    return f"{Role(role).label}: {name}"


def _recorded(assignment: RoleAssignment) -> str:
    """Return a role as audit entries and `--json` hold it, the same in every language."""
    if assignment.scope == RoleScope.GROUP:
        return f"{assignment.role} group {assignment.group}"
    if assignment.scope == RoleScope.TENANT:
        return f"{assignment.role} tenant {assignment.tenant_id}"
    return f"{assignment.role} all"


def _place(role: str, group: str | None, tenant_id: str | None) -> dict[str, Any]:
    if role not in Role.values:
        raise InvalidRole(
            _("There is no role '%(role)s'.") % {"role": role},
            hint=_("The roles are: %(roles)s.") % {"roles": ", ".join(Role.values)},
        )
    if tenant_id is not None:
        return {"scope": RoleScope.TENANT, "group": None, "tenant": tenant_get(tenant_id)}
    if group is None:
        return {"scope": RoleScope.ALL, "group": None, "tenant": None}
    groups = TenantGroup.objects.using(CONTROL)
    found = groups.filter(name=group).first()
    if found is None:
        names = ", ".join(groups.order_by("name").values_list("name", flat=True))
        raise InvalidRole(
            _("There is no group of tenants named '%(name)s'.") % {"name": group},
            hint=_("The groups are: %(names)s. Create groups in the admin.") % {"names": names}
            if names
            else _("There are no groups; they are created in the admin."),
        )
    return {"scope": RoleScope.GROUP, "group": found, "tenant": None}
