"""Migrate the databases of all tenants, or of one, to this code's version, all or nothing.

Two-phase commit (docs/adr/0008-fleet-migrations.md): each tenant's transaction is prepared, then the decision is
written to the control database, then all are committed. Before a decision to commit, no tenant has changed; after it,
prepared transactions are only ever committed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing

from django.db import connections, transaction
from django.utils.translation import gettext as _

from config.base.databases import CONTROL
from tenants.errors import FleetUnfinished, MigrationFailed, ServerError, failure_reason, reason_of
from tenants.fleet.batch import batch_applied, batch_begin, batch_decide, fleet_lock, tenants_for_batch
from tenants.fleet.batch_jobs import Batch
from tenants.fleet.check import check_tenants, full_servers
from tenants.fleet.two_phase import Job, Prepared, end_all, lost, prepare
from tenants.models import BatchStatus, BatchTenant, MigrationBatch, Tenant
from tenants.parallel import in_parallel
from tenants.schema.drift import Group
from tenants.schema.rehearsal import rehearse
from tenants.schema.releases import label, release
from tenants.schema.template import fingerprint
from tenants.schema.transactional import untransactional
from tenants.selectors import require_fleet_finished
from tenants.servers.restore_points import restore_point
from tenants.types import BatchReport, OnBatchProgress, ignore_batch_progress

WORKERS = 8
LOCK_TIMEOUT_S = 5.0


def tenant_migrate(
    *,
    tenant_id: str | None = None,
    dry_run: bool = False,
    workers: int = WORKERS,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
    on_progress: OnBatchProgress = ignore_batch_progress,
) -> BatchReport:
    """Migrate every tenant, suspended ones included, or the named one; return a report.

    A tenant that is being erased is left out. Migrates `workers` tenants at a time; a lock that is not available within
    `lock_timeout_s` seconds fails the batch. With `dry_run`, everything is prepared and then rolled back. Failures are
    reported in `problems`.

    Raises `UnknownTenant`, `TenantNotActive`, `FleetBusy`, or `FleetUnfinished` or `TenantUnfinished` if an interrupted
    operation must be recovered first. Any other error is raised after the batch has been rolled back, or becomes
    `FleetUnfinished` if that fails or comes too late.

    1. lock and record; 2. check every tenant, before any change; 3. check the servers, and rehearse once per server and
    history, in a scratch database; 4. set a restore point on each server, except in a dry run; 5. prepare: the first
    failure rolls everything back; 6. record the decision durably; 7. commit everywhere.
    """
    with fleet_lock():
        require_fleet_finished()
        tenants = tenants_for_batch([tenant_id] if tenant_id else None)
        code = release()
        record = batch_begin(
            tenant_id=tenant_id or "", dry_run=dry_run, version=code.version, tenant_count=len(tenants)
        )
        batch = Batch(
            record=record,
            release=code,
            code=fingerprint(),
            workers=workers,
            lock_timeout_s=lock_timeout_s,
            on_progress=on_progress,
        )
        try:
            return _run(batch, tenants)
        except BaseException as error:
            _abandon(batch, error)
            raise


def _run(batch: Batch, tenants: Sequence[Tenant]) -> BatchReport:
    groups = _check(batch, tenants)
    if not batch.problems:
        _rehearse(batch, groups)
    if not batch.problems and batch.jobs:
        _record_jobs(batch)
        _mark_servers(batch)
        _prepare(batch)
    if batch.jobs and not batch.problems and not batch.record.dry_run and _decide(batch):
        return _commit(batch)
    if batch.problems or batch.jobs:
        return _roll_back(batch)
    # No tenant had anything to apply.
    return batch.end(BatchStatus.COMPLETED)


# -- before any change -------------------------------------------------------------------------------------------------


def _check(batch: Batch, tenants: Sequence[Tenant]) -> list[Group]:
    """Inspect every tenant; store the findings in the control database, and every problem in the batch."""
    with batch.phase("check", len(tenants)) as one_more:
        groups, problems = check_tenants(
            tenants, code=batch.release, work=batch.record.work, workers=batch.workers, on_look=one_more
        )
        batch.problems += problems
    return groups


def _rehearse(batch: Batch, groups: Sequence[Group]) -> None:
    """Rehearse each group's pending migrations and fill `batch.jobs`.

    First checks that the migrations can be applied atomically, and that the servers have the rights and the room that
    they need. Problems are added to the batch, and end the rehearsal.
    """
    pending = [one for one in groups if not batch.release.is_complete(one.history)]
    for key, reason in untransactional().items():
        if any(not batch.release.is_applied(key, one.history) for one in pending):
            batch.problems.append(
                _("Migration %(name)s cannot be applied atomically: %(reason)s.")
                % {"name": label(key), "reason": reason}
            )
    needed = Counter(look.server for one in pending for look in one.looks)
    batch.problems += full_servers(needed, work=batch.record.work)
    if batch.problems:
        return
    with batch.phase("rehearse", len(pending)) as one_more:
        for one in pending:
            try:
                script = rehearse(one.reference, one.history, batch.release, batch.record.work)
            except ServerError as error:
                batch.problems.append(str(error))
                return
            batch.jobs += [Job(look, script, batch.record.gid(look.database)) for look in one.looks]
            one_more(one.server.name)
    # Busy tenants come last, so that their locks are held for the shortest time.
    batch.jobs.sort(key=lambda job: job.look.tenant.work_seen_at is not None)


# -- all or nothing ----------------------------------------------------------------------------------------------------


def _record_jobs(batch: Batch) -> None:
    """Record which databases will hold a prepared transaction, before any does."""
    with transaction.atomic(using=CONTROL):
        BatchTenant.objects.using(CONTROL).bulk_create(
            BatchTenant(
                batch=batch.record,
                tenant_id=job.look.tenant.id,
                server=job.look.server.name,
                database=job.look.database,
                from_version=batch.release.version_of(job.look.history),
                migrations=job.script.migrations,
            )
            for job in batch.jobs
        )
        MigrationBatch.objects.using(CONTROL).filter(pk=batch.record.pk).update(pending_count=len(batch.jobs))


def _mark_servers(batch: Batch) -> None:
    """Set a restore point on each server before the change; do nothing in a dry run."""
    if batch.record.dry_run:
        return
    for server in {job.look.server for job in batch.jobs}:
        restore_point(server, reason="migrate", tenant_id=batch.record.tenant_id)


def _prepare(batch: Batch) -> None:
    """Prepare every tenant, several at a time; stop at the first failure."""

    def work(job: Job) -> Prepared:
        return prepare(
            job,
            release=batch.release,
            work=batch.record.work,
            lock_timeout_s=batch.lock_timeout_s,
            with_locks=batch.record.dry_run,
        )

    outcomes = in_parallel(work, batch.jobs, batch.workers)
    with batch.phase("prepare", len(batch.jobs)) as one_more, closing(outcomes):
        for job, outcome in outcomes:
            if isinstance(outcome, MigrationFailed):
                batch.problems.append(str(outcome))
                return
            if isinstance(outcome, BaseException):
                raise outcome
            batch.prepared[job.look.tenant.id] = outcome
            one_more(job.look.tenant.id)


def _decide(batch: Batch) -> bool:
    """Write the decision to commit; return False, with the reason in `problems`, if everything must be rolled back."""
    with batch.phase("decide", 1) as one_more:
        if fingerprint() != batch.code:
            batch.problems.append(_("The migrations on disk changed while the batch was running. Migrate again."))
            return False
        if not batch_decide(batch.record, BatchStatus.COMMITTING):
            batch.problems.append(_("Another process has decided to roll the batch back."))
            return False
        one_more("")
    return True


def _commit(batch: Batch) -> BatchReport:
    """Commit everything that is prepared; unreachable databases are left to `tenant_recover`."""
    problems = _end_prepared(batch, "commit", commit=True)
    if problems:
        batch.problems += problems
        return batch.report("unfinished")
    missing = lost(batch.record, batch.locked_ms.keys(), workers=batch.workers)
    batch.problems += missing.values()
    batch_applied(batch.record, but=missing)
    return batch.end(BatchStatus.COMPLETED)


def _roll_back(batch: Batch) -> BatchReport:
    """Roll back everything that is prepared. A dry run without problems counts as completed."""
    if not batch_decide(batch.record, BatchStatus.ROLLING_BACK):
        return batch.report("unfinished")
    problems = _end_prepared(batch, "roll back", commit=False)
    if problems:
        batch.problems += problems
        return batch.report("unfinished")
    return batch.end(BatchStatus.ROLLED_BACK if batch.problems else BatchStatus.COMPLETED)


def _abandon(batch: Batch, error: BaseException) -> None:
    """Roll back after Ctrl-C or an unexpected error. Raises `FleetUnfinished` if that fails or comes too late."""
    batch.problems.append(failure_reason(error))
    # The connection itself may have failed.
    connections[CONTROL].close()
    try:
        report = _roll_back(batch)
    except Exception:
        raise FleetUnfinished(batch.record.pk, reason_of(error)) from error
    if report.outcome == "unfinished":
        raise FleetUnfinished(batch.record.pk, reason_of(error)) from error


def _end_prepared(batch: Batch, phase: str, *, commit: bool) -> list[str]:
    with batch.phase(phase, len(batch.prepared)) as one_more:

        def on_end(tenant_id: str) -> None:
            batch.note_unlocked(tenant_id)
            one_more(tenant_id)

        return end_all(batch.record, commit=commit, workers=batch.workers, on_end=on_end)
