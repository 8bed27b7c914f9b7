"""Errors raised if an audit entry or an archived log cannot be written. Do not catch them inside the transaction."""

from django.utils.translation import gettext as _

from config.base.errors import SeoGenError


class AuditError(SeoGenError):
    """An audit entry or an archived log could not be written."""


class UnknownAction(AuditError):
    code = "audit_action_unknown"

    def __init__(self, action: str) -> None:
        super().__init__(
            _("%(action)s is not an audited action.") % {"action": repr(action)},
            hint=_("audit/log/actions.py lists the valid names."),
        )


class AuditOutsideTransaction(AuditError):
    """No transaction is open, but an entry must be committed or rolled back with the change that it records."""

    code = "audit_outside_transaction"

    def __init__(self, action: str, using: str) -> None:
        super().__init__(
            _("%(action)s must be recorded inside the transaction on %(using)s that makes the change.")
            % {"action": action, "using": using},
            hint=_("Wrap the change and the entry in transaction.atomic(using=%(using)r).") % {"using": using},
        )


class DetailsNotJson(AuditError):
    code = "audit_details_invalid"

    def __init__(self, action: str, reason: str) -> None:
        super().__init__(
            _("The details of %(action)s cannot be stored as JSON: %(reason)s.")
            % {"action": action, "reason": reason.rstrip(".")}
        )


class ArchiveDiffers(AuditError):
    """The archived copy of an erased tenant's log differs from the original, so the transaction must be rolled back."""

    code = "audit_archive_differs"

    def __init__(self, tenant_id: str) -> None:
        super().__init__(
            _("Tenant %(id)s: the archived copy of its audit log differs from the original.") % {"id": tenant_id}
        )
