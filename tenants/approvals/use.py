"""Use an approval: once, for exactly what was approved, and only while the accounts concerned still have the roles."""

from __future__ import annotations

from typing import Any

from django.db.models.functions import Now
from django.utils.timezone import now

from audit.log.actor import current_actor
from audit.log.entries import record
from config.base.approvals import Given
from config.base.databases import CONTROL
from tenants.approvals import errors
from tenants.approvals.decide import approval_get
from tenants.approvals.digest import digest_of
from tenants.approvals.people import is_requester, may_approve, may_ask, may_use, user_of
from tenants.models import Approval, ApprovalStatus


def approval_use(kind: str, tenant_id: str, arguments: dict[str, Any], given: Given, *, uses: bool) -> None:
    """Check the approval, and use it up if `uses`. `config.base.approvals.require_approval` calls this.

    A request that has already used an approval passes again: the web server uses the approval when it records the
    request, and each worker that carries the request out checks it again. Raises `ApprovalRefused`.
    """
    approval, digest = approval_get(given.approval_id), digest_of(kind, tenant_id, arguments)
    if (approval.kind, approval.tenant_id) != (kind, tenant_id):
        raise errors.of_something_else(approval.pk)
    if approval.digest != digest:
        raise errors.changed(approval.pk)
    if approval.status == ApprovalStatus.USED and given.used_for and approval.used_for == str(given.used_for):
        return
    _require_good(approval)
    if uses:
        _use_up(approval, digest, str(given.used_for or current_actor().operation_id or ""))


def _require_good(approval: Approval) -> None:
    if approval.status == ApprovalStatus.USED:
        raise errors.used(approval.pk)
    if approval.status != ApprovalStatus.APPROVED:
        raise errors.undecided(approval.pk)
    if approval.expires_at <= now():
        raise errors.expired(approval.pk)
    actor = current_actor().user_id
    if not may_use(actor, approval):
        raise errors.of_another_person(approval.pk, actor)
    # Both are read again: since the approval, an account may have been closed or a role taken away.
    approver = user_of(approval.decider_id)
    if approver is None or not may_approve(approver, approval):
        raise errors.not_an_approver(approval.pk, approval.decided_by)
    if is_requester(approver, approval):
        raise errors.same_person(approval.pk)
    if approval.requester_id is not None and not may_ask(user_of(approval.requester_id), approval):
        raise errors.not_a_requester(approval.pk, approval.requested_by)


def _use_up(approval: Approval, digest: str, used_for: str) -> None:
    """Mark the approval as used, in the caller's transaction, and record it. Of two uses at a time, one is refused."""
    rows = Approval.objects.using(CONTROL).filter(
        pk=approval.pk, status=ApprovalStatus.APPROVED, digest=digest, used_at=None, expires_at__gt=Now()
    )
    if not rows.update(status=ApprovalStatus.USED, used_at=Now(), used_by=current_actor().user_id, used_for=used_for):
        raise errors.used(approval.pk)
    record(
        using=CONTROL,
        action="approval.use",
        resource_type="tenant" if approval.tenant_id else "approval",
        resource_id=approval.tenant_id or str(approval.pk),
        details={
            "approval": str(approval.pk),
            "kind": approval.kind,
            "sha256": digest,
            "requested_by": approval.requested_by,
            "approved_by": approval.decided_by,
        },
    )
