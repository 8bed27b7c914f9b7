"""Who may ask for an approval, who may give it, and which two accounts are one person.

Only accounts and operators' login names are known. Two of them count as one person if they are the same account, have
the same name (an operator's is that of the operating system's account), or the same e-mail address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth import get_user_model

from config.base.databases import CONTROL
from tenants.access.visible import sees_all_tenants, tenants_permitted
from tenants.models import Approval, ApprovalKind

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

APPROVE = "tenants.approve_operation"
# What the person who asks must be allowed to do.
ASK = {
    ApprovalKind.DELETE: "tenants.delete_tenant",
    ApprovalKind.EXPORT: "tenants.export_tenant",
    ApprovalKind.COPY_ALL: "prompts.add_prompt",
    ApprovalKind.PRICE: "llm.change_llmmodel",
}
OPERATOR, STAFF = "operator:", "staff:"


def user_of(user_id: int | None) -> User | None:
    """Return the account as it is now, with none of the permissions that an earlier object remembers."""
    if user_id is None:
        return None
    found: User | None = get_user_model().objects.using(CONTROL).filter(pk=user_id).first()
    return found


def may_approve(user: User | AnonymousUser | None, approval: Approval) -> bool:
    """Return whether the account may approve such a thing now; whether it asked for it is another question."""
    if user is None or not (user.is_active and user.is_staff):
        return False
    return _has(user, APPROVE, approval.tenant_id) and (bool(approval.tenant_id) or sees_all_tenants(user))


def may_ask(user: User | AnonymousUser | None, approval: Approval) -> bool:
    if user is None or not (user.is_active and user.is_staff):
        return False
    return _has(user, ASK[ApprovalKind(approval.kind)], approval.tenant_id)


def is_requester(user: User | AnonymousUser, approval: Approval) -> bool:
    """Return whether the account is the person who asked, as far as accounts can tell."""
    if user.pk == approval.requester_id:
        return True
    asked = approval.requested_by.removeprefix(OPERATOR).removeprefix(STAFF)
    if user.get_username().casefold() == asked.casefold():
        return True
    requester = user_of(approval.requester_id)
    email = getattr(user, "email", "")
    return bool(requester and email and requester.email.casefold() == email.casefold())


def may_use(actor: str, approval: Approval) -> bool:
    """Return whether the actor asked for it; an operator may also use what other staff asked for and approved."""
    if actor == approval.requested_by:
        return True
    if not (actor.startswith(OPERATOR) and approval.requested_by.startswith(STAFF)):
        return False
    approver = approval.decided_by.removeprefix(STAFF)
    return actor.removeprefix(OPERATOR).casefold() != approver.casefold()


def _has(user: User | AnonymousUser, permission: str, tenant_id: str) -> bool:
    if not tenant_id:
        return user.has_perm(permission)
    return tenants_permitted(user, permission).filter(pk=tenant_id).exists()
