"""Former versions of the control database's rows: PostgreSQL leaves their bytes in its files until those are rewritten.

After an erasure they hold the tenant's name, and texts of errors that may quote its contents. So they are rewritten at
its end; where somebody is reading them just then, before the next base backup, or by the next retention run.
"""

from __future__ import annotations

import re
from contextlib import closing
from typing import Any

from django.db import OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.functions import Now

from config.base.databases import CONTROL
from tenants.models import Backup, BatchTenant, Erasure, MigrationBatch, Restore, Tenant, TenantOperation

# Where a tenant's name or contents may have stood (`tenants.erasure.steps`).
MODELS = (Tenant, Backup, Restore, TenantOperation, BatchTenant, MigrationBatch)
OWNER = "control-owner"
# Nobody can read a table while it is rewritten, and whoever waits for us holds up the rest.
LOCK_TIMEOUT = "500ms"
# SQLSTATE, PostgreSQL manual, appendix A.
LOCK_NOT_AVAILABLE = "55P03"


def superseded_remove() -> bool:
    """Rewrite those tables where a tenant was erased since they last were; False where one still has former versions.

    That is where it was in use all the time, where somebody's transaction may still see them, which no rewriting takes
    away, or where the tables are not ours to rewrite: PostgreSQL only warns then.
    """
    waiting = Erasure.objects.using(CONTROL).filter(completed_at__isnull=False, rewritten_at=None)
    erased = list(waiting.values_list("pk", flat=True))
    if not erased:
        return True
    with closing(connections[OWNER if OWNER in connections else CONTROL]) as connection:
        try:
            if not all(_rewritten(connection, model._meta.db_table) for model in MODELS):
                return False
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
            return False
    Erasure.objects.using(CONTROL).filter(pk__in=erased).update(rewritten_at=Now(), rewritten_segment=_segment())
    return True


def _rewritten(connection: BaseDatabaseWrapper, table: str) -> bool:
    """Rewrite the table; tell whether PostgreSQL says that it did, and that no dead row is in it any more."""
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
    """Return the id of the cluster that the control database is in."""
    return str(_asked("SELECT system_identifier::text FROM pg_control_system()"))


def _segment() -> str:
    """Return the name of the segment that holds the last of the control database's log."""
    return str(_asked("SELECT pg_walfile_name(pg_current_wal_insert_lsn() - 1)"))


def _asked(query: str) -> object:
    with connections[CONTROL].cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()[0]
