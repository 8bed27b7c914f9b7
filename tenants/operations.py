"""Multi-step operations on a tenant: a lock that ends with its process, and a record that does not.

An operation recorded as `running` while no one holds the lock was interrupted; `tenants.unfinished` recovers it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from django.conf import settings
from django.db import InterfaceError, OperationalError, connections, transaction
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from audit.log.actor import current_actor
from audit.log.entries import record
from config.base.databases import CONTROL
from config.base.errors import joined
from tenants.errors import TenantBusy, TenantError
from tenants.models import Erasure, OperationStatus, Restore, TenantOperation

# SQLSTATE, PostgreSQL manual, appendix A.
LOCK_NOT_AVAILABLE = "55P03"
LOCK_KEY = "hashtextextended(%s, 0)"
# pg_locks shows the key in two halves (PostgreSQL manual, pg_locks).
HOLDERS = f"""
SELECT session.pid, session.application_name
  FROM pg_locks AS held JOIN pg_stat_activity AS session ON session.pid = held.pid
 WHERE held.locktype = 'advisory' AND held.granted AND held.objsubid = 1
   AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND (held.classid::int8 << 32) | held.objid::int8 = {LOCK_KEY} AND session.pid <> pg_backend_pid()
 ORDER BY session.backend_start
"""


@contextmanager
def tenant_lock(tenant_id: str) -> Iterator[None]:
    """Hold the tenant's lock, so that one process at a time works on it; raise `TenantBusy` if another holds it."""
    with advisory_lock(f"seo-gen:tenant:{tenant_id}", busy=lambda: TenantBusy(tenant_id)):
        yield


@contextmanager
def backup_lock(tenant_id: str) -> Iterator[None]:
    """Share the tenant's lock with other readers, to keep operations out; raise `TenantBusy` if one is running."""
    with advisory_lock(f"seo-gen:tenant:{tenant_id}", busy=lambda: TenantBusy(tenant_id), shared=True):
        yield


@contextmanager
def block_deletion(tenant_id: str) -> Iterator[None]:
    """Block only deletions of the tenant while a test copy of its data exists; raise `TenantBusy` during a deletion."""
    with advisory_lock(_copies(tenant_id), busy=lambda: TenantBusy(tenant_id), shared=True):
        yield


@contextmanager
def copies_barred(tenant_id: str) -> Iterator[None]:
    """Prevent test copies of the tenant's data while the tenant is being erased; raise `TenantBusy` if one exists."""
    with advisory_lock(_copies(tenant_id), busy=lambda: TenantBusy(tenant_id)):
        yield


def _copies(tenant_id: str) -> str:
    return f"seo-gen:copies:{tenant_id}"


@contextmanager
def advisory_lock(
    name: str, *, busy: Callable[[], TenantError], wait_s: float | None = None, shared: bool = False
) -> Iterator[None]:
    """Hold the lock called `name`; raise what `busy` returns if another process keeps it for longer than `wait_s`.

    `wait_s` is in seconds, by default OPERATION_WAIT_S. This is a session-level advisory lock on the control
    connection. The server frees it when the process dies, but not instantly, so every caller waits a little.
    """
    mode = "_shared" if shared else ""
    # To PostgreSQL, 0 means that there is no limit.
    wait_ms = max(1, round(1000 * (settings.OPERATION_WAIT_S if wait_s is None else wait_s)))
    try:
        with transaction.atomic(using=CONTROL):
            _execute(f"SET LOCAL lock_timeout = '{wait_ms}ms'")
            _execute(f"SELECT pg_advisory_lock{mode}({LOCK_KEY})", name)
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", None) != LOCK_NOT_AVAILABLE:
            raise
        refusal = busy()
        refusal.hint = joined(_held_by(name), refusal.hint)
        raise refusal from error
    try:
        yield
    finally:
        # If the connection is gone, so is the lock.
        with suppress(OperationalError, InterfaceError):
            _execute(f"SELECT pg_advisory_unlock{mode}({LOCK_KEY})", name)


def _held_by(name: str) -> str:
    """Return a sentence that names the sessions holding the lock; "" if no one holds it any more."""
    with connections[CONTROL].cursor() as cursor:
        cursor.execute(HOLDERS, [name])
        holders = ", ".join(f"{application or '?'} ({pid})" for pid, application in cursor.fetchall())
    return _("In PostgreSQL, the lock is held by: %(holders)s.") % {"holders": holders} if holders else ""


def operation_begin(*, tenant_id: str, kind: str) -> TenantOperation:
    """Record the operation and return the record; call this in the transaction that makes the first change."""
    return TenantOperation.objects.using(CONTROL).create(
        tenant_id=tenant_id, kind=kind, user_id=current_actor().user_id, status=OperationStatus.RUNNING
    )


def operation_end(operation: TenantOperation, status: OperationStatus, error: str = "") -> None:
    """Close the record; call this in the transaction that makes the last change."""
    TenantOperation.objects.using(CONTROL).filter(pk=operation.pk).update(status=status, error=error, finished_at=Now())


def audit(row: TenantOperation | Restore | Erasure, action: str, **details: object) -> None:
    """Write an entry about the operation into the control audit log; call this last in the change's transaction."""
    record(
        using=CONTROL,
        action=action,
        resource_type="tenant",
        resource_id=row.tenant_id,
        details={"operation": str(row.pk), **details},
    )


def _execute(query: str, *parameters: str) -> None:
    with connections[CONTROL].cursor() as cursor:
        cursor.execute(query, parameters)
