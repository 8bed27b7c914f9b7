"""Request an operation, and recover one that stopped. The web server does no more than this; workers do the rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from audit.log.actor import current_actor
from config.base.approvals import DELETE, EXPORT, approval_given, require_approval
from config.base.databases import CONTROL
from config.base.text import has_control_characters
from tenants.access.visible import is_permitted, tenants_visible
from tenants.errors import UnknownTenant
from tenants.models import OperationRequest, RequestKind, RequestStatus
from tenants.requests.claim import request_audit
from tenants.requests.errors import InvalidOperation, OperationAlreadyRequested, OperationNotAllowed
from tenants.requests.kinds import KINDS
from tenants.requests.wake import send_wake_up

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

REASON_MAX_LENGTH = 500
# The kinds that may need the approval of a second person.
APPROVED = {RequestKind.DELETE: DELETE, RequestKind.EXPORT: EXPORT}


def may(user: User | AnonymousUser, kind: RequestKind, tenant_id: str) -> bool:
    """Return whether the user may request this for the tenant, or for the fleet if `tenant_id` is ""."""
    also = KINDS[kind].also
    return is_permitted(user, KINDS[kind].permission, tenant_id) and (not also or is_permitted(user, also, ""))


def operation_request(
    *,
    user: User | AnonymousUser,
    kind: RequestKind,
    tenant_id: str,
    arguments: dict[str, Any],
    reason: str = "",
    approval_id: UUID | None = None,
) -> OperationRequest:
    """Record that the user wants the operation, and wake a worker.

    An approval, if the settings demand one, is used up in the transaction that records the request. Raises
    `OperationNotAllowed`, `UnknownTenant`, `OperationAlreadyRequested`, `InvalidOperation`, `ApprovalRequired`,
    `ApprovalRefused`.
    """
    if tenant_id and not tenants_visible(user).filter(pk=tenant_id).exists():
        raise UnknownTenant(tenant_id)
    if not may(user, kind, tenant_id):
        raise OperationNotAllowed(user.get_username())
    with _once(tenant_id, kind), transaction.atomic(using=CONTROL):
        made = OperationRequest.objects.using(CONTROL).create(
            kind=kind,
            tenant_id=tenant_id,
            arguments=arguments,
            reason=clean_reason(reason),
            requested_by=current_actor().user_id,
            requester_id=user.pk,
            approval_id=approval_id,
        )
        if kind in APPROVED:
            with approval_given(approval_id, used_for=made.pk):
                require_approval(APPROVED[kind], tenant_id, arguments)
        request_audit(made, "operation.request", arguments=arguments, reason=made.reason)
        transaction.on_commit(partial(send_wake_up, made.pk), using=CONTROL)
    return made


def request_recover(*, user: User | AnonymousUser, request_id: UUID) -> OperationRequest:
    """Let a worker finish or undo an operation that stopped half-way. Raises `OperationNotAllowed`."""
    rows = OperationRequest.objects.using(CONTROL)
    found = rows.get(pk=request_id)
    if not may(user, RequestKind(found.kind), found.tenant_id):
        raise OperationNotAllowed(user.get_username())
    with _once(found.tenant_id, found.kind), transaction.atomic(using=CONTROL):
        again = rows.filter(pk=request_id, status=RequestStatus.UNFINISHED).update(
            status=RequestStatus.REQUESTED, due_at=Now(), finished_at=None, error="", error_code=""
        )
        if again:
            request_audit(found, "operation.recover")
            transaction.on_commit(partial(send_wake_up, request_id), using=CONTROL)
    return rows.get(pk=request_id)


def require_still_allowed(request: OperationRequest) -> None:
    """Raise `OperationNotAllowed` if the requester may no longer request this. A worker checks before it begins."""
    user = get_user_model().objects.using(CONTROL).filter(pk=request.requester_id or 0).first()
    if user is None or not may(user, RequestKind(request.kind), request.tenant_id):
        raise OperationNotAllowed(request.requested_by)


@contextmanager
def _once(tenant_id: str, kind: str) -> Iterator[None]:
    """Raise `OperationAlreadyRequested` if the database refuses a second open request of the kind for the tenant."""
    try:
        yield
    except IntegrityError as error:
        if "operation_requests_once" not in str(error):
            raise
        raise OperationAlreadyRequested(tenant_id, str(RequestKind(kind).label)) from error


def clean_reason(reason: str) -> str:
    """Return the reason trimmed; raise `InvalidOperation` if it cannot be kept."""
    text = reason.strip()
    if len(text) > REASON_MAX_LENGTH:
        raise InvalidOperation(_("The reason is too long."))
    if has_control_characters(text):
        raise InvalidOperation(_("A reason cannot contain control characters."))
    return text
