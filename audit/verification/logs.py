"""Where each audit log of this installation ends, and which roles own and write a tenant's log."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import LiteralString

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import Error

from audit.log.chain_check import ChainHead
from audit.log.entries import record
from audit.verification.guard_check import LogRoles
from audit.verification.log_check import Ends, log_ends
from config.base.databases import CONTROL
from tenants.models import Tenant, database_prefix
from tenants.servers.session import parse_location

TENANT_LOG: LiteralString = "audit_logs"
TENANT_HEAD: LiteralString = "audit_chain_heads"
CONTROL_LOG: LiteralString = "control_audit_logs"
# The hash that the control log's first entry follows (`audit.log.chain_sql`).
CONTROL_GENESIS = hashlib.sha256(b"seo-gen audit chain of control_audit_logs").hexdigest()
LAST = "SELECT sequence, entry_hash FROM public.control_audit_logs ORDER BY sequence DESC LIMIT 1"


class _Undo(Exception):
    """Rolls back the trial entry."""


def tenant_roles(tenant: Tenant) -> LogRoles:
    prefix = database_prefix()
    group = f"{prefix}_tenant"
    return LogRoles(f"{prefix}_owner", group, (group, parse_location(tenant.database_url).role))


def tenant_ends(connection: BaseDatabaseWrapper) -> Ends:
    return log_ends(connection, TENANT_LOG, TENANT_HEAD)


def control_ends() -> Ends:
    """Return where the control log ends. The application may not read the head, so this appends a trial entry.

    The trial entry holds the head that it followed, and is rolled back. If it cannot be written, the head is unknown.
    Without the chain trigger, it holds no head: the last row is then returned as the head, and the check of the guards
    reports the missing trigger.
    """
    found: list[tuple[ChainHead, ChainHead | None]] = []
    with suppress(_Undo, Error), transaction.atomic(using=CONTROL):
        entry = record(using=CONTROL, action="audit.verify", resource_type="audit_log", resource_id="control")
        head = ChainHead(entry.sequence - 1, entry.previous_hash)
        # The head is locked, so its row is committed, and no newer row can be added.
        last = _row(
            "SELECT sequence, entry_hash FROM public.control_audit_logs WHERE id <> %s ORDER BY sequence DESC LIMIT 1",
            entry.pk,
        )
        found.append((head, last))
        raise _Undo
    if not found:
        return Ends(None, _row(LAST))
    head, last = found[0]
    if head.sequence < 0:
        return Ends(last or ChainHead(0, CONTROL_GENESIS), last)
    return Ends(head, last)


def _row(query: LiteralString, *parameters: int) -> ChainHead | None:
    with connections[CONTROL].cursor() as cursor:
        cursor.execute(query, parameters)
        row = cursor.fetchone()
    return ChainHead(*row) if row else None
