"""Write audit entries, and export a log."""

import json
from collections.abc import Iterator
from typing import LiteralString

from django.db import DEFAULT_DB_ALIAS, transaction

from audit.control.models import ControlAuditLog
from audit.errors import AuditOutsideTransaction, DetailsNotJson, UnknownAction
from audit.log.actions import ACTIONS
from audit.log.actor import current_actor
from audit.log.file_format import audit_pages
from audit.models import AuditLog
from config.base.rows import fetch_one, object_of

Details = dict[str, object]

# The fields of an entry: those that its author gives, and those that the database adds.
GIVEN = ("user_id", "action", "resource_type", "resource_id", "details", "operation_id")
MADE = ("id", "created_at", "sequence", "previous_hash", "entry_hash")
INSERT: LiteralString = """
INSERT INTO public.audit_logs (user_id, action, resource_type, resource_id, details, operation_id)
VALUES (%s, %s, %s, %s, %s::jsonb, %s) RETURNING id, created_at, sequence, previous_hash, entry_hash
"""
INSERT_CONTROL: LiteralString = """
INSERT INTO public.control_audit_logs (user_id, action, resource_type, resource_id, details, operation_id)
VALUES (%s, %s, %s, %s, %s::jsonb, %s) RETURNING id, created_at, sequence, previous_hash, entry_hash
"""


def record(
    *, using: str, action: str, resource_type: str, resource_id: str, details: Details | None = None
) -> AuditLog | ControlAuditLog:
    """Append an entry by the current actor to the log of the database `using`, in its open transaction; return it.

    Call this last: it locks the chain's head, so every other writer of that log waits until the commit. `details` holds
    JSON values such as ids, names, settings and digests, never articles' content or secrets.

    Raises `UnknownAction`, `DetailsNotJson`, or `AuditOutsideTransaction` if no transaction is open.
    """
    if action not in ACTIONS:
        raise UnknownAction(action)
    text = _json(action, details)
    if not transaction.get_connection(using).in_atomic_block:
        raise AuditOutsideTransaction(action, using)
    actor = current_actor()
    given = (actor.user_id, action, resource_type, resource_id, text, actor.operation_id)
    log = _log(using)
    made = fetch_one(using, INSERT_CONTROL if log is ControlAuditLog else INSERT, given)
    return object_of(log, using, (*GIVEN, *MADE), (*given, *(made or ())))


def log_export(*, using: str) -> Iterator[bytes]:
    """Record that the current actor exports the log; return the entries before that as JSON lines.

    The "audit.export" entry is committed before anything is returned; it holds the number of
    these entries and the last one's hash. The iterator yields a batch of lines at a time and
    needs no transaction.
    """
    log = _log(using)
    table: LiteralString = "control_audit_logs" if log is ControlAuditLog else "audit_logs"
    entries = None
    while entries is None:
        entries = _export_recorded(using, log, table)
    return audit_pages(using, table, entries)


def _export_recorded(using: str, log: type[AuditLog] | type[ControlAuditLog], table: str) -> int | None:
    """Record an export of the entries so far; return their number, or None if another entry was appended meanwhile."""
    with transaction.atomic(using=using):
        last = log.objects.using(using).order_by("-sequence").values_list("sequence", "entry_hash").first()
        entries, head = last or (0, "")
        entry = record(
            using=using,
            action="audit.export",
            resource_type="audit_log",
            resource_id=table,
            details={"entries": entries, "head": head},
        )
        if entry.sequence == entries + 1:
            return int(entries)
        transaction.set_rollback(True, using=using)
    return None


def _log(using: str) -> type[AuditLog] | type[ControlAuditLog]:
    return ControlAuditLog if using == DEFAULT_DB_ALIAS else AuditLog


def _json(action: str, details: Details | None) -> str | None:
    """Return `details` as text for jsonb, or None.

    Raises `DetailsNotJson` for NaN, infinity, U+0000, and types that JSON does not have.
    """
    if details is None:
        return None
    try:
        text = json.dumps(details, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DetailsNotJson(action, str(error)) from error
    if "\\u0000" in text.replace("\\\\", ""):
        raise DetailsNotJson(action, "a text contains U+0000")
    return text
