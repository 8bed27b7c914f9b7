"""The approval of operations by a second person. Services of any app call `require_approval` in their transaction.

TWO_PERSON_OPERATIONS names the kinds of operations that need the approval of a second person. The rules are in
`tenants.approvals`, whose functions are registered here, because apps below `tenants` must not import it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from config.base.errors import SeoGenError

DELETE, EXPORT, COPY_ALL, PRICE = "delete", "export", "prompt-copy-all", "price-by-hand"
KINDS = (DELETE, EXPORT, COPY_ALL, PRICE)

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Given:
    """An approval passed to an operation, and the id of the operation's request, if it was requested in the admin."""

    approval_id: UUID
    used_for: UUID | None = None


class ApprovalRequired(SeoGenError):
    """An operation needs the approval of a second person, and none was passed. The attributes name the operation."""

    code = "approval_required"

    def __init__(self, kind: str, tenant_id: str, arguments: Arguments) -> None:
        super().__init__(
            _("This operation (%(kind)s) needs the approval of a second person.") % {"kind": kind},
            hint=_("Request it with “Set prices” on the model's page.")
            if kind == PRICE
            else _(
                "Request it in the admin, or run the command with --request-approval REASON; once approved, pass"
                " --approval ID."
            ),
        )
        self.kind, self.tenant_id, self.arguments = kind, tenant_id, arguments


_given: ContextVar[Given | None] = ContextVar("approval_given", default=None)
_wanted: ContextVar[bool] = ContextVar("approval_wanted", default=False)
_registered: dict[str, str] = {}


def register(*, use: str, request: str) -> None:
    """Register, by their dotted paths, the function that uses an approval and the one that requests it."""
    _registered.update(use=use, request=request)


@contextmanager
def approval_given(approval_id: UUID | None, *, used_for: UUID | None = None) -> Iterator[None]:
    """Pass the approval to the services that are called in the block."""
    token = _given.set(Given(approval_id, used_for) if approval_id else None)
    try:
        yield
    finally:
        _given.reset(token)


@contextmanager
def approval_wanted(wanted: bool) -> Iterator[None]:
    """With `wanted`, demand an approval in the block whatever the settings say, so that one can be requested."""
    token = _wanted.set(wanted)
    try:
        yield
    finally:
        _wanted.reset(token)


def is_demanded(kind: str) -> bool:
    return _wanted.get() or kind in settings.TWO_PERSON_OPERATIONS


def require_approval(kind: str, tenant_id: str, arguments: Arguments) -> None:
    """Use up the approval of exactly this operation; do nothing if none was passed and none is demanded.

    Call this in the control database's transaction that records the operation, so that neither a crash nor a race uses
    an approval twice. Raises `ApprovalRequired`, or an error that says why the approval does not count.
    """
    _decide(kind, tenant_id, arguments, uses=True)


def check_approval(kind: str, tenant_id: str, arguments: Arguments) -> None:
    """Raise what `require_approval` would raise, but use nothing up. For use before a person is asked to confirm."""
    _decide(kind, tenant_id, arguments, uses=False)


def request_approval(wanted: ApprovalRequired, reason: str, user: Any = None) -> UUID:
    """Request the approval that was missing, for an operator's command or a `user` of the admin; return its id."""
    made: UUID = import_string(_registered["request"])(
        kind=wanted.kind, tenant_id=wanted.tenant_id, arguments=wanted.arguments, reason=reason, user=user
    ).pk
    return made


def _decide(kind: str, tenant_id: str, arguments: Arguments, *, uses: bool) -> None:
    given = _given.get()
    if given is not None:
        import_string(_registered["use"])(kind, tenant_id, arguments, given, uses=uses)
    elif is_demanded(kind):
        raise ApprovalRequired(kind, tenant_id, arguments)
