"""Who may ask for an approval, who may give it, and which accounts count as one person.

Only accounts and operators' login names are known. Two of them count as one person if they are the same account, or
have the same name (an operator's is that of the operating system's account) or the same e-mail address.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.contrib.auth import get_user_model
from django.db.models.functions import Now

from audit.control.models import ControlAuditLog
from config.base.databases import CONTROL
from tenants.access.visible import is_permitted
from tenants.models import Approval, ApprovalKind

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

APPROVE = "tenants.approve_operation"
# What the person who asks must be allowed to do.
ASK = {
    ApprovalKind.DELETE: "tenants.delete_tenant",
    ApprovalKind.EXPORT: "tenants.export_tenant",
    ApprovalKind.COPY_ALL: "prompts.copy_prompt",
    ApprovalKind.PRICE: "llm.set_prices",
}
# For how long an account counts as the same person as the one who created it, set its password or gave it a role.
INDEPENDENT_AFTER_DAYS = 30
ACCESS_CHANGED = ("user.create", "user.change", "user.roles", "second_factor.reset")
OPERATOR, STAFF = "operator:", "staff:"


def user_of(user_id: int | None) -> User | None:
    """Return the account as it is now, without permissions cached by an earlier object; None if there is no account."""
    if user_id is None:
        return None
    found: User | None = get_user_model().objects.using(CONTROL).filter(pk=user_id).first()
    return found


def may_approve(user: User | AnonymousUser | None, approval: Approval) -> bool:
    """Return whether the account's roles allow it to approve this.

    `is_requester` and `depends_on_requester` check that it is a second person.
    """
    return user is not None and is_permitted(user, APPROVE, approval.tenant_id)


def may_ask(user: User | AnonymousUser | None, approval: Approval) -> bool:
    return user is not None and is_permitted(user, ASK[ApprovalKind(approval.kind)], approval.tenant_id)


def is_requester(user: User | AnonymousUser, approval: Approval) -> bool:
    """Return whether the account belongs to the person who asked, as far as accounts can tell."""
    if user.pk == approval.requester_id:
        return True
    asked = approval.requested_by.removeprefix(OPERATOR).removeprefix(STAFF)
    if user.get_username().casefold() == asked.casefold():
        return True
    requester = user_of(approval.requester_id)
    email = getattr(user, "email", "")
    return bool(requester and email and requester.email.casefold() == email.casefold())


def depends_on_requester(user: User | AnonymousUser, approval: Approval) -> bool:
    """Return whether the requester has recently created or changed the account, its roles or its second factor.

    If that were ignored, an administrator could act as two people: with their own account, and with one whose password
    they have just set.
    """
    return (
        ControlAuditLog.objects.using(CONTROL)
        .filter(user_id=approval.requested_by, resource_type="user", resource_id=str(user.pk))
        .filter(action__in=ACCESS_CHANGED, created_at__gt=Now() - timedelta(days=INDEPENDENT_AFTER_DAYS))
        .exists()
    )


def may_use(actor: str, approval: Approval) -> bool:
    """Return whether the actor may use the approval.

    The requester may. If a member of staff asked, so may any operator whose name is not the approver's.
    """
    if actor == approval.requested_by:
        return True
    if not (actor.startswith(OPERATOR) and approval.requested_by.startswith(STAFF)):
        return False
    approver = approval.decided_by.removeprefix(STAFF)
    return actor.removeprefix(OPERATOR).casefold() != approver.casefold()
