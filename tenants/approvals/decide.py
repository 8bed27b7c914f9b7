"""Request, approve, reject and withdraw approvals; record each in the control log and the tenant's log (`_audit`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django.utils.timezone import now
from django.utils.translation import gettext as _

from audit.log.actor import current_actor
from audit.log.entries import record
from config.base.databases import CONTROL
from config.base.text import has_control_characters
from tenants.approvals import errors
from tenants.approvals.digest import digest_of
from tenants.approvals.people import depends_on_requester, is_requester, may_approve, may_ask
from tenants.errors import TenantUnreachable
from tenants.models import Approval, ApprovalKind, ApprovalStatus, Tenant, TenantStatus
from tenants.routing.context import tenant_context
from tenants.selectors import tenant_get

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

MAX_TEXT = 500
# The tenant's own log can be written in these states.
WITH_LOG = (TenantStatus.ACTIVE, TenantStatus.SUSPENDED)


def approval_request(
    *, kind: str, tenant_id: str, arguments: dict[str, Any], reason: str, user: User | AnonymousUser | None = None
) -> Approval:
    """Request approval for exactly this operation and these arguments.

    `user` is the account that asks, or None for an operator's command. Raises `ApprovalRefused` if the reason is
    missing or invalid, or if the account may not request this operation; a `TenantError` if the tenant's log cannot be
    written, unless it is `TenantUnreachable` and a deletion is requested.
    """
    approval = Approval(
        kind=kind,
        tenant_id=tenant_id,
        arguments=arguments,
        digest=digest_of(kind, tenant_id, arguments),
        requested_by=current_actor().user_id,
        requester_id=user.pk if user else None,
        reason=_text(reason, required=True),
        expires_at=now() + timedelta(hours=settings.APPROVAL_VALID_HOURS),
        status=ApprovalStatus.REQUESTED,
    )
    if user is not None and not may_ask(user, approval):
        raise errors.may_not_request(user.get_username())
    with transaction.atomic(using=CONTROL):
        approval.save(using=CONTROL, force_insert=True)
        _audit(approval, "approval.request", reason=approval.reason)
    return approval


def approval_approve(*, approval_id: UUID, user: User | AnonymousUser, digest: str, note: str = "") -> Approval:
    """Approve what the approver saw: `digest` is the one that the page showed.

    Raises `ApprovalRefused`, or a `TenantError` as `approval_request` does.
    """
    return _decide(approval_id, user, digest, ApprovalStatus.APPROVED, note)


def approval_reject(*, approval_id: UUID, user: User | AnonymousUser, digest: str, note: str = "") -> Approval:
    return _decide(approval_id, user, digest, ApprovalStatus.REJECTED, note)


def approval_withdraw(*, approval_id: UUID, user: User | AnonymousUser) -> Approval:
    """Withdraw the user's own request, even if it is approved.

    Raises `ApprovalRefused` if there is no such request, if another person asked, or if the request was rejected,
    withdrawn or used; a `TenantError` as `approval_request` does.
    """
    approval = approval_get(approval_id)
    if user.pk != approval.requester_id:
        raise errors.of_another_person(approval_id, user.get_username())
    with transaction.atomic(using=CONTROL):
        open_ = (ApprovalStatus.REQUESTED, ApprovalStatus.APPROVED)
        rows = Approval.objects.using(CONTROL).filter(pk=approval_id, status__in=open_)
        if not rows.update(status=ApprovalStatus.WITHDRAWN):
            raise errors.used(approval_id)
        _audit(approval, "approval.withdraw")
    return approval_get(approval_id)


def approval_get(approval_id: UUID) -> Approval:
    found = Approval.objects.using(CONTROL).filter(pk=approval_id).first()
    if found is None:
        raise errors.unknown(approval_id)
    return found


def _decide(approval_id: UUID, user: User | AnonymousUser, digest: str, status: ApprovalStatus, note: str) -> Approval:
    approval = approval_get(approval_id)
    if is_requester(user, approval):
        raise errors.same_person(approval_id)
    if not may_approve(user, approval):
        raise errors.may_not_decide(approval_id, user.get_username())
    if status == ApprovalStatus.APPROVED and depends_on_requester(user, approval):
        raise errors.dependent(approval_id, user.get_username())
    if digest != approval.digest or digest != digest_of(approval.kind, approval.tenant_id, approval.arguments):
        raise errors.not_as_seen(approval_id)
    with transaction.atomic(using=CONTROL):
        decided = (
            Approval.objects.using(CONTROL)
            .filter(pk=approval_id, status=ApprovalStatus.REQUESTED, digest=digest, expires_at__gt=Now())
            .update(
                status=status,
                decided_by=current_actor().user_id,
                decider_id=user.pk,
                decided_at=Now(),
                note=_text(note),
            )
        )
        if not decided:
            raise errors.expired(approval_id) if approval.expires_at <= now() else errors.used(approval_id)
        _audit(approval, "approval.approve" if status == ApprovalStatus.APPROVED else "approval.reject")
    return approval_get(approval_id)


def _audit(approval: Approval, action: str, **details: object) -> None:
    """Write the entry into the control log, and into the tenant's log if the tenant is active or suspended.

    The tenant's transaction is committed first: after a crash, its log may have one entry too many, but never too few.
    A tenant whose database is lost can still be deleted; the control log's entry then says that the tenant's log has
    none.
    """
    given = {
        "approval": str(approval.pk),
        "kind": approval.kind,
        "sha256": approval.digest,
        "requested_by": approval.requested_by,
        **details,
    }
    with ExitStack() as stack:
        living = Tenant.objects.using(CONTROL).filter(pk=approval.tenant_id, status__in=WITH_LOG)
        if approval.tenant_id and living.exists():
            try:
                stack.enter_context(_tenants_entry(approval, action, dict(given)))
            except TenantUnreachable:
                if approval.kind != ApprovalKind.DELETE:
                    raise
                given["tenant_log"] = "unreachable"
        _entry(CONTROL, approval, action, dict(given))


@contextmanager
def _tenants_entry(approval: Approval, action: str, details: dict[str, object]) -> Iterator[None]:
    """Write the entry into the tenant's log; it is committed after the block."""
    with (
        tenant_context(tenant_get(approval.tenant_id), statuses=WITH_LOG) as alias,
        transaction.atomic(using=alias),
    ):
        _entry(alias, approval, action, details)
        yield


def _entry(using: str, approval: Approval, action: str, details: dict[str, object]) -> None:
    in_control = using == CONTROL and approval.tenant_id
    record(
        using=using,
        action=action,
        resource_type="tenant" if in_control else "approval",
        resource_id=approval.tenant_id if in_control else str(approval.pk),
        details=details,
    )


def _text(text: str, *, required: bool = False) -> str:
    cleaned = " ".join(text.split())
    problem = ""
    if required and not cleaned:
        problem = _("Enter a reason.")
    elif len(cleaned) > MAX_TEXT:
        problem = _("The text is too long: enter at most %(limit)d characters.") % {"limit": MAX_TEXT}
    elif has_control_characters(cleaned):
        problem = _("The text cannot contain control characters.")
    if problem:
        raise errors.ApprovalRefused(problem, code="approval_reason_invalid")
    return cleaned
