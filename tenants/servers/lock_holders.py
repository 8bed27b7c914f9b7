"""Lock timeouts: who probably holds the lock, on which table, and how to get it released."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.conf import settings
from django.db import OperationalError
from django.utils.translation import gettext as _

from config.base.databases import CONTROL
from tenants.errors import ServerError
from tenants.models import DatabaseServer, MigrationBatch, batch_of, database_prefix
from tenants.naming import owner_role
from tenants.servers.session import LockHolder, ServerSession

# SQLSTATE, PostgreSQL manual, appendix A.
LOCK_NOT_AVAILABLE = "55P03"


class DatabaseLocked(OperationalError):
    """A lock timeout. The message names the probable lock holder, if known; the cause is the driver's error."""


def is_lock_timeout(error: BaseException | None) -> bool:
    """Return whether the error is a lock timeout."""
    return isinstance(error, OperationalError) and getattr(error.__cause__, "sqlstate", None) == LOCK_NOT_AVAILABLE


@contextmanager
def lock_holders_named(server: DatabaseServer, database: str) -> Iterator[None]:
    """Turn a lock timeout in the block, which works in `database`, into `DatabaseLocked`."""
    try:
        yield
    except OperationalError as error:
        if isinstance(error, DatabaseLocked) or not is_lock_timeout(error):
            raise
        raise DatabaseLocked(lock_reason(server, database)) from error.__cause__


def lock_reason(server: DatabaseServer, database: str, timeout_s: float | None = None) -> str:
    """Return sentences: who probably holds the lock, as a separate session sees it, and how to get it released.

    `timeout_s` is the lock timeout that ran out; None: the one of DATABASE_LIMITS.
    """
    holder = None
    # If the server refuses even that session, only the timeout is known.
    with suppress(ServerError), ServerSession(server, database_prefix(), "locks") as server_session:
        holder = server_session.lock_holder(database)
    return reason_for(holder, settings.DATABASE_LIMITS.lock_timeout_s if timeout_s is None else timeout_s)


def reason_for(holder: LockHolder | None, timeout_s: float) -> str:
    # A prepared transaction can end between the reading of its locks and that of its name.
    if holder is None or (holder.pid is None and holder.gid is None):
        return _(
            "A lock was not granted within %(timeout)g s. The session or prepared transaction that held it could not be"
            " determined; it may have ended since."
        ) % {"timeout": timeout_s}
    words = {
        **vars(holder),
        "timeout": timeout_s,
        "role": holder.role or "?",
        "seconds": "?" if holder.age_s is None else holder.age_s,
        "state": holder.state or "?",
        "application": holder.application or "?",
    }
    if _is_of_batch(holder):
        return (
            _(
                "A lock was not granted within %(timeout)g s. It is probably held by prepared transaction %(gid)s of a"
                " batch (%(role)s, prepared %(seconds)s s ago), which has locked table %(table)s (%(mode)s). If the"
                " batch's process is no longer running, run `seo-gen tenant recover`."
            )
            % words
        )
    if holder.gid is not None:
        return (
            _(
                "A lock was not granted within %(timeout)g s. It is probably held by prepared transaction %(gid)s"
                " (%(role)s, prepared %(seconds)s s ago), which has locked table %(table)s (%(mode)s). End it in the"
                " table's database, as that role or a superuser, with COMMIT PREPARED or ROLLBACK PREPARED."
            )
            % words
        )
    return (
        _(
            "A lock was not granted within %(timeout)g s. It is probably held by process %(pid)d (%(role)s,"
            " %(application)s, %(state)s), which has locked table %(table)s (%(mode)s) in a transaction that has been"
            " open for %(seconds)s s. Wait for that transaction to end, or end the process with"
            " pg_terminate_backend(%(pid)d)."
        )
        % words
    )


def _is_of_batch(holder: LockHolder) -> bool:
    """Return whether the owner prepared the transaction for a recorded batch; its name alone proves nothing."""
    if holder.gid is None or holder.role != owner_role(database_prefix()):
        return False
    batch_id = batch_of(holder.gid)
    return batch_id is not None and MigrationBatch.objects.using(CONTROL).filter(pk=batch_id).exists()
