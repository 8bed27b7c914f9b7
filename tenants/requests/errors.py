"""Errors of operations that staff request."""

from django.utils.translation import gettext as _

from tenants.errors import TenantError


class OperationNotAllowed(TenantError):
    """The member of staff may not request the operation, or no longer may."""

    code = "operation_not_allowed"

    def __init__(self, who: str, *, account_exists: bool = True) -> None:
        super().__init__(
            _("%(who)s may not request this operation.") % {"who": who},
            hint=_("An administrator of all tenants can give this account a role that allows it.")
            if account_exists
            else "",
        )


class OperationAlreadyRequested(TenantError):
    """An operation of the same kind on the same tenant, or on the fleet, is waiting or running."""

    code = "operation_requested"

    def __init__(self, tenant_id: str, kind: str) -> None:
        super().__init__(
            _("An operation of the same kind (%(kind)s) on tenant %(id)s is already waiting or running.")
            % {"kind": kind, "id": tenant_id}
            if tenant_id
            else _("An operation of the same kind (%(kind)s) is already waiting or running.") % {"kind": kind},
            hint=_("Follow it under “Operations”."),
        )


class OperationInterrupted(TenantError):
    """The operation was interrupted, and recovery has now undone it."""

    code = "operation_interrupted"

    def __init__(self, reason: str = "") -> None:
        message = _("The operation was interrupted and undone; nothing was changed. %(reason)s") % {"reason": reason}
        super().__init__(message.strip(), hint=_("Request it again."))


class OperationUndone(TenantError):
    """The operation was undone before this claim: it failed, or it was interrupted and then recovered elsewhere."""

    code = "operation_undone"

    def __init__(self, reason: str) -> None:
        message = _("The operation was undone; nothing was changed. %(reason)s") % {"reason": reason}
        super().__init__(message.strip(), hint=_("Request it again."))


class OperationUnfinished(TenantError):
    """The operation was interrupted, and recovery could neither finish nor undo it yet."""

    code = "operation_unfinished"

    def __init__(self, reason: str) -> None:
        super().__init__(reason, hint=_("Fix the cause, then press “Recover” on the operation's page."))


class OperationBusy(TenantError):
    """Another process is still carrying out the operation."""

    code = "operation_busy"

    def __init__(self) -> None:
        super().__init__(_("Another process is still carrying out this operation."))


class OperationLost(TenantError):
    """Too many workers were lost while carrying out the operation."""

    code = "operation_lost"

    def __init__(self, lost: int) -> None:
        super().__init__(
            _("This operation was given up: %(count)d workers were lost while carrying it out.") % {"count": lost},
            hint=_("Check the workers' logs, then request it again."),
        )


class InvalidOperation(TenantError):
    """A reason is invalid, or the preview of an approved copy of prompts no longer exists."""

    code = "operation_invalid"


class PromptsNotCopied(TenantError):
    """A copy of prompts, its preview or its undo failed, or could not be finished in all tenants."""

    code = "prompt_copy_rolled_back"


class FleetNotMigrated(TenantError):
    """A migration of all tenants, or of one, was rolled back, or could not be finished in all of them."""

    code = "fleet_migration_failed"

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
