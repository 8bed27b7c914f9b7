"""Open a tenant, for one hour, to a member of staff who has no role for it and states a reason.

The reason is recorded before anything is revealed, and access starts only once the tenant's own log has its entry.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from audit.log.entries import record
from config.base.databases import CONTROL
from tenants.access.grants import OPENERS
from tenants.access.visible import sees_tenant
from tenants.errors import AccessNotOpened, TenantNotActive, UnknownTenant
from tenants.models import Role, RoleAssignment, TemporaryAccess
from tenants.routing.context import tenant_context

if TYPE_CHECKING:
    from django.contrib.auth.models import User

OPEN_FOR = timedelta(hours=1)


def roles_to_open_with(user: User) -> list[Role]:
    """Return the roles with which `user` may open another tenant: viewer and their own; [] if they may open none.

    Administrators may choose any role except administrator: only with an assigned role may a person manage a tenant's
    users or delete the tenant.
    """
    held = set(RoleAssignment.objects.using(CONTROL).filter(user=user).values_list("role", flat=True))
    if held.isdisjoint(OPENERS):
        return []
    offered = set(Role) if Role.ADMINISTRATOR in held else held | {Role.VIEWER}
    return [role for role in Role if role in offered and role != Role.ADMINISTRATOR]


def access_open(*, user: User, tenant_id: str, role: str, reason: str) -> TemporaryAccess:
    """Open the tenant to `user` with `role` for one hour, and return the access.

    Raises `AccessNotOpened` if `user` may not choose that role or already sees the tenant, and, with one message for
    both, if the tenant does not exist or is not active; the control log keeps such an attempt. If the tenant's database
    cannot be used, its error is raised, and no access is given.
    """
    if role not in roles_to_open_with(user):
        raise AccessNotOpened(
            _("You cannot open other tenants with the role %(role)s.")
            % {"role": Role(role).label if role in Role.values else role},
            hint=_("An administrator of all tenants can give you a role for this tenant."),
            code="access_not_allowed",
        )
    if sees_tenant(user, tenant_id):
        raise AccessNotOpened(
            _("You already have access to tenant %(id)s.") % {"id": tenant_id},
            hint=_("“Tenants” lists it."),
            code="access_not_needed",
        )
    asked: dict[str, object] = {"role": role, "reason": reason}
    with transaction.atomic(using=CONTROL):
        record(
            using=CONTROL,
            action="tenant.access.ask",
            resource_type="tenant",
            resource_id=tenant_id,
            details=asked,
        )
    try:
        with tenant_context(tenant_id) as alias:
            access = TemporaryAccess.objects.using(CONTROL).create(
                user=user,
                user_name=user.get_username(),
                tenant_id=tenant_id,
                role=role,
                reason=reason,
                expires_at=Now() + OPEN_FOR,
            )
            access.refresh_from_db(using=CONTROL)
            details = {**asked, "until": access.expires_at.isoformat()}
            _record(alias, "tenant.access.open", tenant_id, details)
    except (UnknownTenant, TenantNotActive) as error:
        # The same words for a tenant that does not exist and for one that is closed.
        raise AccessNotOpened(
            _("No tenant with the id %(id)s can be opened.") % {"id": repr(tenant_id)},
            hint=_("Check the id. Your request was recorded."),
            code="access_not_opened",
        ) from error
    with transaction.atomic(using=CONTROL):
        TemporaryAccess.objects.using(CONTROL).filter(pk=access.pk).update(recorded_at=Now())
        _record(CONTROL, "tenant.access.open", tenant_id, details)
    return access


def access_close(*, access_id: int) -> TemporaryAccess:
    """End the access now, unless it has already ended, and return it. Raises `TemporaryAccess.DoesNotExist`."""
    with transaction.atomic(using=CONTROL):
        access = TemporaryAccess.objects.using(CONTROL).select_for_update().get(pk=access_id)
        ended = TemporaryAccess.objects.using(CONTROL).filter(
            pk=access_id, closed_at=None, recorded_at__isnull=False, expires_at__gt=Now()
        )
        if ended.update(closed_at=Now()):
            _record(CONTROL, "tenant.access.close", access.tenant_id, {"name": access.user_name})
    return access


def _record(using: str, action: str, tenant_id: str, details: dict[str, object]) -> None:
    with transaction.atomic(using=using):
        record(using=using, action=action, resource_type="tenant", resource_id=tenant_id, details=details)
