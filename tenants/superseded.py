"""Former versions of the control database's rows: PostgreSQL leaves their bytes in its files until those are rewritten.

After an erasure they hold the tenant's name, and texts of errors that may quote its contents.
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
LOCK_TIMEOUT = "2s"
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
    Erasure.objects.using(CONTROL).filter(pk__in=erased).update(rewritten_at=Now())
    return True
