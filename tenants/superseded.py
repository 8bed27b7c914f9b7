"""Former versions of the control database's rows: PostgreSQL leaves their bytes in its files until those are rewritten.

After an erasure they hold the tenant's name, and texts of errors that may quote its contents. So they are rewritten at
its end; where somebody is reading them just then, before the next base backup, or by the next retention run.
"""

from __future__ import annotations

from contextlib import closing

from django.db import OperationalError, connections
from django.db.models.functions import Now

from tenants.models import Backup, BatchTenant, Erasure, MigrationBatch, Restore, Tenant, TenantOperation
from tenants.router import CONTROL

# Where a tenant's name or contents may have stood (`tenants.erasing`).
MODELS = (Tenant, Backup, Restore, TenantOperation, BatchTenant, MigrationBatch)
OWNER = "control-owner"
# Nobody can read a table while it is rewritten, and whoever waits for us holds up the rest.
LOCK_TIMEOUT = "500ms"
# SQLSTATE, PostgreSQL manual, appendix A.
LOCK_NOT_AVAILABLE = "55P03"


def superseded_remove() -> bool:
    """Rewrite those tables where a tenant was erased since they last were; False where one was in use all the time."""
    waiting = Erasure.objects.using(CONTROL).filter(completed_at__isnull=False, rewritten_at=None)
    erased = list(waiting.values_list("pk", flat=True))
    if not erased:
        return True
    with closing(connections[OWNER if OWNER in connections else CONTROL]) as connection:
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
                for model in MODELS:
                    cursor.execute(f"VACUUM (FULL) public.{connection.ops.quote_name(model._meta.db_table)}")
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
            return False
    Erasure.objects.using(CONTROL).filter(pk__in=erased).update(rewritten_at=Now(), rewritten_segment=_segment())
    return True


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
