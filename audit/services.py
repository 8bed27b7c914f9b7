"""Write an audit entry."""

import json

from django.db import DEFAULT_DB_ALIAS, transaction

from audit.actions import ACTIONS
from audit.context import current_actor
from audit.control.models import ControlAuditLog
from audit.errors import AuditOutsideTransaction, DetailsNotJson, UnknownAction
from audit.models import AuditLog

Details = dict[str, object]


def record(
    *, using: str, action: str, resource_type: str, resource_id: str, details: Details | None = None
) -> AuditLog | ControlAuditLog:
    """Append an entry by the current actor to the log of the database `using`, in its running transaction.

    Call it last: from here to the commit, every other writer of that log waits for the chain's head. `details` holds
    ids, names and digests as JSON values, never content or secrets.

    Raises `UnknownAction`, `DetailsNotJson`, or `AuditOutsideTransaction` where nothing ties the entry to the change.
    """
    if action not in ACTIONS:
        raise UnknownAction(action)
    _require_json(action, details)
    if not transaction.get_connection(using).in_atomic_block:
        raise AuditOutsideTransaction(action, using)
    actor = current_actor()
    log = ControlAuditLog if using == DEFAULT_DB_ALIAS else AuditLog
    return log.objects.using(using).create(
        user_id=actor.user_id,
        action=action,
        resource_type=resource_type,
        resource_id=resource_id,
        details=details,
        operation_id=actor.operation_id,
    )


def _require_json(action: str, details: Details | None) -> None:
    """PostgreSQL's jsonb knows neither NaN nor U+0000; anything but plain JSON values is a mistake of the caller's."""
    try:
        text = json.dumps(details, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DetailsNotJson(action, str(error)) from error
    if "\\u0000" in text.replace("\\\\", ""):
        raise DetailsNotJson(action, "U+0000")
