"""One tenant's part of a batch: prepare its transaction, then commit or roll it back.

See the PostgreSQL manual, PREPARE TRANSACTION.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeVar

from django.db import ProgrammingError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import Error
from django.utils.translation import gettext as _

from audit.log.entries import record
from audit.log.safe_search_path import catalog_only
from config.base.databases import CONTROL
from config.base.errors import SeoGenError
from tenants.errors import MigrationFailed, ServerError, reason_of
from tenants.models import BatchKind, BatchTenant, DatabaseServer, MigrationBatch, database_prefix, parse_gid
from tenants.parallel import in_parallel
from tenants.routing.owner_connection import owner_connection
from tenants.schema.catalog import catalog_fingerprint, catalog_read, catalog_stamp, differences, named
from tenants.schema.inspection import Look, unusable
from tenants.schema.recorded_sql import Script
from tenants.schema.reference import history_read
from tenants.schema.releases import Release, label
from tenants.servers.lock_holders import is_lock_timeout, lock_reason
from tenants.servers.session import ServerSession

Result = TypeVar("Result")

# SQLSTATE, PostgreSQL manual, appendix A.
UNDEFINED_OBJECT = "42704"
# The strongest lock on each of our tables that blocks writers, or readers too.
LOCKS = """
SELECT regexp_replace(relation::regclass::text, '^public\\.', ''),
       (array_agg(mode ORDER BY array_position(%s, mode)))[1]
  FROM pg_catalog.pg_locks
 WHERE pid = pg_backend_pid() AND locktype = 'relation' AND relation >= 16384::oid AND mode = ANY(%s)
   AND (SELECT relkind FROM pg_catalog.pg_class WHERE oid = relation) IN ('r', 'p', 'v', 'm')
 GROUP BY relation
 ORDER BY 1
"""
# Whether the entry that a copy of prompts writes in its prepared transaction was committed.
COPIED = """
SELECT EXISTS (
    SELECT 1 FROM public.audit_logs
     WHERE action = 'prompt.copy' AND resource_type = 'prompt_copy' AND resource_id = %s
)
"""
BLOCKING_MODES = ["AccessExclusiveLock", "ExclusiveLock", "ShareRowExclusiveLock", "ShareLock"]


@dataclass(frozen=True)
class Job:
    """The work to do in one tenant's database."""

    look: Look
    script: Script
    gid: str


@dataclass(frozen=True)
class Prepared:
    prepared_ms: int
    # When its first lock was taken (time.perf_counter).
    locked_at: float
    locks: dict[str, str] | None


def prepare(job: Job, *, release: Release, work: str, lock_timeout_s: float, with_locks: bool) -> Prepared:
    """Migrate the tenant in one transaction, and prepare the transaction.

    Raises `MigrationFailed`; nothing is changed then.

    1. check that history and schema are unchanged since the inspection, so that migrations call only our code; 2. run
    the script; 3. write the tenant's own audit entry; 4. check that the schema matches the rehearsal's;
    5. run PREPARE TRANSACTION.
    """
    begun = time.perf_counter()
    tenant_id, running = job.look.tenant.id, ""

    def on_step(name: str) -> None:
        nonlocal running
        running = name

    with owner_connection(job.look.server, job.look.database, work) as connection:
        try:
            connection.set_autocommit(False)
            _execute(connection, f"SET LOCAL lock_timeout = {int(lock_timeout_s * 1000)}")
            if history_read(connection) != job.look.history:
                raise MigrationFailed(tenant_id, _("Its migrations have changed since it was checked."))
            _require_untouched(connection, job.look)
            locked_at = time.perf_counter()
            job.script.run(connection, on_step)
            _audit(connection, job, release)
            _require_schema(connection, job)
            locks = _locks(connection) if with_locks else None
            _execute(connection, "PREPARE TRANSACTION %s", job.gid)
        except MigrationFailed:
            raise
        except Error as error:
            reason = _reason(job.look, error, lock_timeout_s)
            raise MigrationFailed(tenant_id, reason, migration=running) from error
        except Exception as error:  # a data migration's own code: whatever it raises is this tenant's failure
            first = str(error).strip().partition("\n")[0]
            raise MigrationFailed(tenant_id, f"{type(error).__name__}: {first}", migration=running) from error
    return Prepared(_ms_since(begun), locked_at, locks)


def prepare_change(
    look: Look, change: Callable[[str], Result], *, gid: str, work: str, lock_timeout_s: float
) -> Result:
    """Change rows in one transaction, as the owner, and prepare the transaction; return what `change(alias)` returns.

    Raises `MigrationFailed`; nothing is changed then. As before a migration, the schema must be the one that was
    checked, so that the change calls only our code.
    """
    with owner_connection(look.server, look.database, work) as connection:
        try:
            connection.set_autocommit(False)
            _execute(connection, f"SET LOCAL lock_timeout = {int(lock_timeout_s * 1000)}")
            if history_read(connection) != look.history:
                raise MigrationFailed(look.tenant.id, _("Its migrations have changed since it was checked."))
            _require_untouched(connection, look)
            with transaction.atomic(using=connection.alias, savepoint=False):
                result = change(connection.alias)
            _execute(connection, "PREPARE TRANSACTION %s", gid)
        except MigrationFailed:
            raise
        except SeoGenError as error:
            raise MigrationFailed(look.tenant.id, str(error)) from error
        except Error as error:
            raise MigrationFailed(look.tenant.id, _reason(look, error, lock_timeout_s)) from error
    return result


def end_prepared(server: DatabaseServer, database: str, gid: str, *, commit: bool, work: str) -> bool:
    """Commit or roll back a prepared transaction; return False if none with that name exists (any more)."""
    with owner_connection(server, database, work) as connection:
        try:
            _execute(connection, "COMMIT PREPARED %s" if commit else "ROLLBACK PREPARED %s", gid)
        except ProgrammingError as error:
            if getattr(error.__cause__, "sqlstate", None) != UNDEFINED_OBJECT:
                raise
            return False
    return True


def end_all(
    batch: MigrationBatch, *, commit: bool, workers: int, on_end: Callable[[str], None] = lambda tenant_id: None
) -> list[str]:
    """Commit or roll back everything that the batch has prepared, on every server; return one sentence per failure.

    1. end the sessions of a killed process, so that they cannot prepare another transaction; 2. ask each server what is
    prepared; 3. commit it or roll it back. Safe to repeat, even while another process does the same. `on_end` is called
    with the id of each tenant whose transaction has ended.
    """
    problems: list[str] = []
    found: list[tuple[DatabaseServer, str, str]] = []
    rows = batch.tenants.using(CONTROL).values_list("server", "database", "tenant_id")
    tenant_ids = {(server, database): tenant_id for server, database, tenant_id in rows}
    for server in DatabaseServer.objects.using(CONTROL).filter(pk__in=batch.tenants.using(CONTROL).values("server")):
        try:
            with ServerSession(server, database_prefix(), batch.work) as server_session:
                server_session.end_predecessors()
                prepared = server_session.prepared_transactions(batch.gid())
        except ServerError as error:
            problems.append(str(error))
            continue
        found += [(server, database, gid) for gid, database in prepared.items()]
    ended = in_parallel(lambda one: end_prepared(*one, commit=commit, work=batch.work), found, workers)
    for (server, database, _gid), outcome in ended:
        tenant_id = tenant_ids.get((server.pk, database), database)
        if isinstance(outcome, Error):
            problems.append(str(unusable(tenant_id, outcome)))
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            on_end(tenant_id)
    return problems


def lost(batch: MigrationBatch, committed: Collection[str], *, workers: int) -> dict[str, str]:
    """Return {tenant id: sentence} for tenants that a committed batch did not change; skip the `committed` ones.

    Their rows lose the changes that were recorded, so that an undo leaves them out. Someone else must have rolled back
    their prepared transactions. Raises `ServerError` or Django's `Error` if a database cannot be read.
    """

    def is_lost(row: BatchTenant) -> bool:
        server = DatabaseServer.objects.using(CONTROL).get(pk=row.server)
        try:
            with owner_connection(server, row.database, batch.work) as connection:
                return not _has_arrived(connection, batch, row)
        finally:
            connections[CONTROL].close()

    rows = batch.tenants.using(CONTROL).exclude(tenant_id__in=committed)
    problems = {}
    for row, outcome in in_parallel(is_lost, list(rows), workers):
        if isinstance(outcome, BaseException):
            raise outcome
        if outcome:
            reason = (
                _("Someone else rolled back its prepared transaction; migrate the tenant again.")
                if batch.kind == BatchKind.MIGRATE
                else _("Someone else rolled back its prepared transaction, so its prompts were not changed.")
            )
            problems[row.tenant_id] = str(MigrationFailed(row.tenant_id, reason))
    batch.tenants.using(CONTROL).filter(tenant_id__in=problems).update(changes=None)
    return problems


def _has_arrived(connection: BaseDatabaseWrapper, batch: MigrationBatch, row: BatchTenant) -> bool:
    if batch.kind == BatchKind.MIGRATE:
        return set(row.migrations) <= set(map(label, history_read(connection)))
    with catalog_only(connection), connection.cursor() as cursor:
        cursor.execute(COPIED, [str(batch.pk)])
        return bool(cursor.fetchone()[0])


def _audit(connection: BaseDatabaseWrapper, job: Job, release: Release) -> None:
    # Inside the open transaction, which is rolled back as a whole if this fails.
    with transaction.atomic(using=connection.alias, savepoint=False):
        record(
            using=connection.alias,
            action="tenant.migrate",
            resource_type="tenant",
            resource_id=job.look.tenant.id,
            details={
                "batch": parse_gid(job.gid)[0],
                "from": release.version_of(job.look.history),
                "migrations": job.script.migrations,
            },
        )


def _require_untouched(connection: BaseDatabaseWrapper, look: Look) -> None:
    if catalog_stamp(connection) != look.stamp and catalog_fingerprint(connection) != look.fingerprint:
        raise MigrationFailed(look.tenant.id, _("Its schema has changed since it was checked."))


def _require_schema(connection: BaseDatabaseWrapper, job: Job) -> None:
    if catalog_fingerprint(connection) != job.script.fingerprint:
        found = named(differences(job.script.catalog, catalog_read(connection)))
        raise MigrationFailed(
            job.look.tenant.id,
            _("Its migrated schema differs from the rehearsal's: %(differences)s.") % {"differences": found},
        )


def _locks(connection: BaseDatabaseWrapper) -> dict[str, str]:
    with catalog_only(connection), connection.cursor() as cursor:
        cursor.execute(LOCKS, [BLOCKING_MODES, BLOCKING_MODES])
        return dict(cursor.fetchall())


def _reason(look: Look, error: Error, lock_timeout_s: float) -> str:
    """Return the database's message or, after a lock timeout, who holds the lock."""
    if not is_lock_timeout(error):
        return reason_of(error)
    return lock_reason(look.server, look.database, lock_timeout_s)


def _execute(connection: BaseDatabaseWrapper, query: str, *parameters: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)


def _ms_since(moment: float) -> int:
    return round((time.perf_counter() - moment) * 1000)
