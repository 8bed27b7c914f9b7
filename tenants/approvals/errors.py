"""Why an approval does not count, or cannot be requested, decided or withdrawn. Messages about one name its id."""

from django.utils.translation import gettext as _

from config.base.errors import SeoGenError
from tenants.approvals.people import INDEPENDENT_AFTER_DAYS


class ApprovalRefused(SeoGenError):
    """An approval does not count, or cannot be requested, decided or withdrawn; `code` says why."""


def unknown(approval_id: object) -> ApprovalRefused:
    return ApprovalRefused(_("There is no approval %(id)s.") % {"id": approval_id}, code="approval_unknown")


def of_something_else(approval_id: object) -> ApprovalRefused:
    return ApprovalRefused(
        _("Approval %(id)s is for another operation or another tenant.") % {"id": approval_id},
        code="approval_of_something_else",
    )


def changed(approval_id: object) -> ApprovalRefused:
    return ApprovalRefused(
        _("Approval %(id)s was requested for different arguments.") % {"id": approval_id},
        hint=_("Request a new approval for exactly these arguments."),
        code="approval_changed",
    )


def not_as_seen(approval_id: object) -> ApprovalRefused:
    return ApprovalRefused(
        _("Approval %(id)s is no longer the one that the page showed.") % {"id": approval_id},
        hint=_("Reload the page, and check it again."),
        code="approval_changed",
    )


def used(approval_id: object) -> ApprovalRefused:
    return ApprovalRefused(
        _("Approval %(id)s was already used, decided or withdrawn.") % {"id": approval_id},
        code="approval_used",
    )


def expired(approval_id: object) -> ApprovalRefused:
    return ApprovalRefused(_("Approval %(id)s has expired.") % {"id": approval_id}, code="approval_expired")


def undecided(approval_id: object) -> ApprovalRefused:
    return ApprovalRefused(_("Approval %(id)s is not approved.") % {"id": approval_id}, code="approval_missing")


def same_person(approval_id: object) -> ApprovalRefused:
    return ApprovalRefused(
        _("Approval %(id)s needs a second person: no one can approve or reject their own request.")
        % {"id": approval_id},
        code="approval_same_person",
    )


def dependent(approval_id: object, who: str) -> ApprovalRefused:
    return ApprovalRefused(
        _(
            "Approval %(id)s needs a second person: the requester created or changed the account %(who)s, its roles or"
            " its second factor within the last %(days)d days."
        )
        % {"id": approval_id, "who": who, "days": INDEPENDENT_AFTER_DAYS},
        hint=_("Have someone else approve it."),
        code="approval_same_person",
    )


def may_not_decide(approval_id: object, who: str) -> ApprovalRefused:
    return ApprovalRefused(
        _("%(who)s may not approve or reject approval %(id)s.") % {"id": approval_id, "who": who},
        code="approval_approver_not_allowed",
    )


def not_an_approver(approval_id: object, who: str) -> ApprovalRefused:
    return ApprovalRefused(
        _("Approval %(id)s does not count: %(who)s, who approved it, may no longer approve this operation.")
        % {"id": approval_id, "who": who},
        code="approval_approver_not_allowed",
    )


def may_not_request(who: str) -> ApprovalRefused:
    """Return the error for a request that is refused; the message names no approval, since none was made."""
    return ApprovalRefused(
        _("%(who)s may not request this operation.") % {"who": who}, code="approval_requester_not_allowed"
    )


def not_a_requester(approval_id: object, who: str) -> ApprovalRefused:
    return ApprovalRefused(
        _("Approval %(id)s does not count: %(who)s may not request this operation.") % {"id": approval_id, "who": who},
        code="approval_requester_not_allowed",
    )


def of_another_person(approval_id: object, who: str) -> ApprovalRefused:
    return ApprovalRefused(
        _("Approval %(id)s was requested by someone other than %(who)s.") % {"id": approval_id, "who": who},
        code="approval_of_another_person",
    )
