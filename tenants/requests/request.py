"""Request an operation, and recover an interrupted one. The web server does no more than this; workers do the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from audit.log.actor import current_actor
from config.base.approvals import COPY_ALL, DELETE, EXPORT, approval_given, require_approval
from config.base.databases import CONTROL
from config.base.text import has_control_characters
from tenants.access.visible import is_permitted, tenants_permitted, tenants_visible
from tenants.errors import UnknownTenant
from tenants.models import ABOUT_SEVERAL, OperationRequest, RequestKind, RequestStatus
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
    """Return whether the user may request this for the tenant, or for the fleet if `tenant_id` is "".

    For a copy of prompts or its undo, `tenant_id` is the tenant that is copied from; the others are not checked here.
    """
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
    """Record that the user wants the operation, wake a worker, and return the request.

    An approval, if the settings demand one, is used up in the transaction that records the request. Raises
    `OperationNotAllowed`, `UnknownTenant`, `OperationAlreadyRequested`, `InvalidOperation`, `ApprovalRequired`,
    `ApprovalRefused`.
    """
    if tenant_id and not tenants_visible(user).filter(pk=tenant_id).exists():
        raise UnknownTenant(tenant_id)
    _require_allowed(user, kind, tenant_id, arguments)
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
        for approved in _to_approve(kind, tenant_id, arguments):
            with approval_given(approval_id, used_for=made.pk):
                require_approval(*approved)
        request_audit(made, "operation.request", arguments=arguments, reason=made.reason)
        transaction.on_commit(partial(send_wake_up, made.pk), using=CONTROL)
    return made


def request_recover(*, user: User | AnonymousUser, request_id: UUID) -> OperationRequest:
    """Let a worker finish or undo an interrupted operation, and return the request.

    Changes nothing unless the request has ended as unfinished. Raises `OperationNotAllowed`, `UnknownTenant`, or
    `OperationAlreadyRequested` if another request of the same kind for the tenant is open.
    """
    rows = OperationRequest.objects.using(CONTROL)
    found = rows.get(pk=request_id)
    _require_allowed(user, RequestKind(found.kind), found.tenant_id, found.arguments)
    with _once(found.tenant_id, found.kind), transaction.atomic(using=CONTROL):
        again = rows.filter(pk=request_id, status=RequestStatus.UNFINISHED).update(
            status=RequestStatus.REQUESTED, due_at=Now(), finished_at=None, error="", error_code=""
        )
        if again:
            request_audit(found, "operation.recover")
            transaction.on_commit(partial(send_wake_up, request_id), using=CONTROL)
    return rows.get(pk=request_id)


def require_still_allowed(request: OperationRequest) -> None:
    """Raise `OperationNotAllowed` or `UnknownTenant` if the requester may no longer request this.

    A worker calls this before it begins.
    """
    user = get_user_model().objects.using(CONTROL).filter(pk=request.requester_id or 0).first()
    if user is None:
        raise OperationNotAllowed(request.requested_by, account_exists=False)
    _require_allowed(user, RequestKind(request.kind), request.tenant_id, request.arguments)


def _require_allowed(
    user: User | AnonymousUser, kind: RequestKind, tenant_id: str, arguments: Mapping[str, Any]
) -> None:
    """Raise `OperationNotAllowed` unless the user may request this.

    A copy of prompts or its undo needs the permission for each tenant that it changes too, or `Kind.everywhere` if it
    changes all. Raises `UnknownTenant` if the user may not see one of these, as if it did not exist.
    """
    if not may(user, kind, tenant_id):
        raise OperationNotAllowed(user.get_username())
    if kind not in ABOUT_SEVERAL:
        return
    targets = arguments["tenants"]
    if targets is None:
        if not is_permitted(user, KINDS[kind].everywhere, ""):
            raise OperationNotAllowed(user.get_username())
        return
    seen = set(tenants_visible(user).filter(pk__in=targets).values_list("pk", flat=True))
    for target in targets:
        if target not in seen:
            raise UnknownTenant(target)
    if tenants_permitted(user, KINDS[kind].permission).filter(pk__in=seen).count() < len(seen):
        raise OperationNotAllowed(user.get_username())


def _to_approve(
    kind: RequestKind, tenant_id: str, arguments: dict[str, Any]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (kind, tenant id, arguments) of each approval by a second person that the settings may demand."""
    if kind in APPROVED:
        yield APPROVED[kind], tenant_id, arguments
    if kind == RequestKind.PROMPT_COPY and arguments["to_all"]:
        yield COPY_ALL, "", arguments["to_all"]


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
    """Return the reason, trimmed; raise `InvalidOperation` if it is too long or contains control characters."""
    text = reason.strip()
    if len(text) > REASON_MAX_LENGTH:
        raise InvalidOperation(_("The reason is too long: enter at most 500 characters."))
    if has_control_characters(text):
        raise InvalidOperation(_("A reason cannot contain control characters."))
    return text
