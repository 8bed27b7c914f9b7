"""Superseded row versions in the control database: PostgreSQL may keep their bytes until a rewrite.

After an erasure, they may still contain the tenant's name, and error texts that may quote its data. So an erasure ends
by rewriting the tables that may hold them. If that is not possible at the time, the next base backup, retention run or
erasure tries again.
"""

from __future__ import annotations

import re
from contextlib import closing
from typing import Any

from django.db import OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.functions import Now

from config.base.databases import CONTROL
from tenants.app_hooks import contents
from tenants.models import (
    Backup,
    BatchTenant,
    Erasure,
    MigrationBatch,
    OperationRequest,
    Restore,
    Tenant,
    TenantOperation,
)

# Tables that may have held a tenant's name or data (`tenants.erasure.steps`).
MODELS = (Tenant, Backup, Restore, TenantOperation, BatchTenant, MigrationBatch, OperationRequest)
OWNER = "control-owner"
# The rewrite blocks readers; and while we wait for the lock, all later queries on the table queue up behind us.
LOCK_TIMEOUT = "500ms"
# SQLSTATE codes: see appendix A of the PostgreSQL manual.
LOCK_NOT_AVAILABLE = "55P03"


def superseded_remove() -> bool:
    """Rewrite the tables if an erasure still needs that; return False if superseded rows may remain.

    They may remain if a table stayed locked, if an open transaction can still see them, or if we lack the privilege to
    rewrite the tables (in which case PostgreSQL only warns).
    """
    waiting = Erasure.objects.using(CONTROL).filter(completed_at__isnull=False, rewritten_at=None)
    erased = list(waiting.values_list("pk", flat=True))
    if not erased:
        return True
    with closing(connections[OWNER if OWNER in connections else CONTROL]) as connection:
        try:
            if not all(_rewritten(connection, table) for table in _tables()):
                return False
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
            return False
    Erasure.objects.using(CONTROL).filter(pk__in=erased).update(rewritten_at=Now(), rewritten_segment=_segment())
    return True


def _tables() -> list[str]:
    return [*(model._meta.db_table for model in MODELS), *contents().control_tables()]


def _rewritten(connection: BaseDatabaseWrapper, table: str) -> bool:
    """Rewrite the table; return True if PostgreSQL reports that the table was rewritten and no dead row remains."""
    details: list[str] = []

    def listen(notice: Any) -> None:
        if notice.severity_nonlocalized == "INFO" and notice.message_detail:
            details.append(notice.message_detail)

    with connection.cursor() as cursor:
        connection.connection.add_notice_handler(listen)
        try:
            cursor.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
            cursor.execute(f"VACUUM (FULL, VERBOSE) public.{connection.ops.quote_name(table)}")
        finally:
            connection.connection.remove_notice_handler(listen)
    # "0 dead row versions cannot be removed yet.", in the server's language.
    found = re.search(r"\d+", details[-1]) if details else None
    return found is not None and int(found.group()) == 0


def control_system_identifier() -> str:
    """Return the system identifier of the control database's PostgreSQL cluster."""
    return str(_asked("SELECT system_identifier::text FROM pg_control_system()"))


def _segment() -> str:
    """Return the name of the control database's current WAL segment."""
    return str(_asked("SELECT pg_walfile_name(pg_current_wal_insert_lsn() - 1)"))


def _asked(query: str) -> object:
    with connections[CONTROL].cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()[0]
