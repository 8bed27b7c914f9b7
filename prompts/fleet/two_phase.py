"""Change the prompts of several tenants, all or none: prepare everywhere, decide, commit everywhere.

The machinery is that of migrations (docs/adr/0008-fleet-migrations.md), and so is its recovery: `tenant recover` ends
the prepared transactions according to the record in the control database.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

from django.db import connections, transaction
from django.utils.translation import gettext as _

from audit.log.entries import record
from config.base.databases import CONTROL
from prompts.fleet.types import Change, CopyReport, StepDifference
from tenants.errors import FleetUnfinished, MigrationFailed, failure_reason, reason_of
from tenants.fleet.batch import batch_decide, batch_end
from tenants.fleet.batch_jobs import Phases
from tenants.fleet.check import full_servers
from tenants.fleet.two_phase import end_all, lost, prepare_change
from tenants.models import BatchStatus, BatchTenant, MigrationBatch
from tenants.parallel import in_parallel
from tenants.schema.inspection import Look


@dataclass(frozen=True)
class Job:
    """The work to do in one tenant's database."""

    look: Look
    # Makes the changes in the open transaction of the alias, and returns them.
    change: Callable[[str], list[Change]]
    # The active versions before the change, for display.
    before: str


@dataclass(kw_only=True)
class Batch(Phases):
    """State that the phases share, and the data for the report."""

    record: MigrationBatch
    workers: int
    lock_timeout_s: float
    jobs: list[Job] = field(default_factory=list)
    # Keyed by tenant id.
    changes: dict[str, list[Change]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)

    def end(self, status: BatchStatus) -> CopyReport:
        """Close the record, and return the report."""
        batch_end(self.record, status, problems=self.problems, timing_ms=self.timing_ms)
        report = self.report(status.value)
        with self.phase("end", 0):
            pass
        return report

    def report(self, outcome: str) -> CopyReport:
        return CopyReport(
            batch_id=self.record.pk,
            outcome=outcome,
            dry_run=False,
            tenant_count=self.record.tenant_count,
            pending_count=len(self.jobs),
            differences=[
                StepDifference(tenant_id, one["step"], one["before"], one["after"], "")
                for tenant_id, changes in sorted(self.changes.items())
                for one in changes
            ],
            problems=self.problems,
            timing_ms=self.timing_ms,
        )


def batch_run(batch: Batch, plan: Callable[[Batch], None]) -> CopyReport:
    """Find the batch's jobs and problems with `plan`, then change everything or nothing; return the report.

    Failures of tenants and servers are reported in `problems`. After any other exception, such as
    Ctrl-C, the batch is rolled back and the exception raised again; if the batch cannot be rolled
    back, `FleetUnfinished` is raised instead.
    """
    try:
        plan(batch)
        if batch.jobs and not batch.problems:
            _record_jobs(batch)
            _prepare(batch)
            if not batch.problems and _decide(batch):
                return _commit(batch)
        return _roll_back(batch) if batch.problems else batch.end(BatchStatus.COMPLETED)
    except BaseException as error:
        _abandon(batch, error)
        raise


def require_room(batch: Batch) -> None:
    """Record a problem for each server that the batch cannot use, or that lacks room for its prepared transactions."""
    batch.problems += full_servers(Counter(job.look.server for job in batch.jobs), work=batch.record.work)


def _record_jobs(batch: Batch) -> None:
    """Record which databases will hold a prepared transaction, before any does."""
    with transaction.atomic(using=CONTROL):
        BatchTenant.objects.using(CONTROL).bulk_create(
            BatchTenant(
                batch=batch.record,
                tenant_id=job.look.tenant.id,
                server=job.look.server.name,
                database=job.look.database,
                from_version=job.before,
                migrations=[],
            )
            for job in batch.jobs
        )
        MigrationBatch.objects.using(CONTROL).filter(pk=batch.record.pk).update(pending_count=len(batch.jobs))


def _prepare(batch: Batch) -> None:
    """Prepare every tenant, several at a time; stop at the first failure."""

    def work(job: Job) -> list[Change]:
        return prepare_change(
            job.look,
            lambda alias: _changed(alias, batch.record, job),
            gid=batch.record.gid(job.look.database),
            work=batch.record.work,
            lock_timeout_s=batch.lock_timeout_s,
        )

    outcomes = in_parallel(work, batch.jobs, batch.workers)
    with batch.phase("prepare", len(batch.jobs)) as one_more, closing(outcomes):
        for job, outcome in outcomes:
            if isinstance(outcome, MigrationFailed):
                batch.problems.append(str(outcome))
                return
            if isinstance(outcome, BaseException):
                raise outcome
            batch.changes[job.look.tenant.id] = outcome
            one_more(job.look.tenant.id)


def _changed(alias: str, batch: MigrationBatch, job: Job) -> list[Change]:
    """Make and return the tenant's changes.

    The audit entry is written last: `tenant recover` takes it as proof that the changes were committed.
    """
    changes = job.change(alias)
    record(
        using=alias,
        action="prompt.copy",
        resource_type="prompt_copy",
        resource_id=str(batch.pk),
        details={"changes": changes, "undoes": str(batch.undoes) if batch.undoes else None},
    )
    return changes


def _decide(batch: Batch) -> bool:
    """Write the decision to commit, and what an undo needs; return False if everything must be rolled back."""
    with batch.phase("decide", 1) as one_more, transaction.atomic(using=CONTROL):
        for row in batch.record.tenants.using(CONTROL):
            row.changes = batch.changes[row.tenant_id]
            row.save(using=CONTROL, update_fields=["changes"])
        if not batch_decide(batch.record, BatchStatus.COMMITTING):
            batch.problems.append(_("Another process has decided to roll the batch back."))
            return False
    one_more("")
    return True


def _commit(batch: Batch) -> CopyReport:
    """Commit everything that is prepared, and return the report; `tenant recover` ends what cannot be reached now."""
    problems = _end_prepared(batch, "commit", commit=True)
    if problems:
        batch.problems += problems
        return batch.report("unfinished")
    missed = lost(batch.record, batch.ended, workers=batch.workers)
    batch.problems += missed.values()
    batch.changes = {tenant: changes for tenant, changes in batch.changes.items() if tenant not in missed}
    return batch.end(BatchStatus.COMPLETED)


def _roll_back(batch: Batch) -> CopyReport:
    """Roll back everything that is prepared, and return the report; `tenant recover` ends what cannot be ended now."""
    if not batch_decide(batch.record, BatchStatus.ROLLING_BACK):
        return batch.report("unfinished")
    problems = _end_prepared(batch, "roll back", commit=False)
    batch.changes.clear()
    if problems:
        batch.problems += problems
        return batch.report("unfinished")
    return batch.end(BatchStatus.ROLLED_BACK)


def _abandon(batch: Batch, error: BaseException) -> None:
    """Roll back after an exception, such as Ctrl-C or a lost connection.

    Raises `FleetUnfinished` if that fails, or if the decision to commit was already recorded.
    """
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
    with batch.phase(phase, len(batch.changes)) as one_more:

        def on_end(tenant_id: str) -> None:
            batch.ended.add(tenant_id)
            one_more(tenant_id)

        return end_all(batch.record, commit=commit, workers=batch.workers, on_end=on_end)
