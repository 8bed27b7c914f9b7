"""A running migration of tenants: what its phases share, their timings, and the report."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from django.db import connections

from config.base.databases import CONTROL
from tenants.fleet.batch import batch_end
from tenants.fleet.two_phase import Job, Prepared
from tenants.models import BatchStatus, MigrationBatch
from tenants.schema.releases import Release
from tenants.types import BatchProgress, BatchReport, OnBatchProgress, TenantOutcome

# A single statement, since Django's `bulk_update` takes a millisecond per row.
KEEP_TIMES = """
UPDATE migration_batch_tenants AS row
   SET prepared_ms = measured.prepared_ms, locked_ms = measured.locked_ms, locks = measured.locks::jsonb
  FROM unnest(%s::text[], %s::int[], %s::int[], %s::text[]) AS measured (tenant_id, prepared_ms, locked_ms, locks)
 WHERE row.batch_id = %s AND row.tenant_id = measured.tenant_id
"""


@dataclass(kw_only=True)
class Phases:
    """Announces and times the phases of a batch, and collects its problems."""

    on_progress: OnBatchProgress
    timing_ms: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @contextmanager
    def phase(self, name: str, total: int) -> Iterator[Callable[[str], None]]:
        """Announce and time the phase; yield a function to call each time an item is done."""
        begun, done = time.perf_counter(), 0

        def one_more(subject: str) -> None:
            nonlocal done
            done += 1
            self.on_progress(BatchProgress(name, done, total, subject))

        self.on_progress(BatchProgress(name, 0, total))
        yield one_more
        self.timing_ms[name] = round((time.perf_counter() - begun) * 1000)


@dataclass(kw_only=True)
class Batch(Phases):
    """State that the phases share, and the data for the report."""

    record: MigrationBatch
    release: Release
    # Fingerprint of the code at the start of the batch.
    code: str
    workers: int
    lock_timeout_s: float
    jobs: list[Job] = field(default_factory=list)
    # Keyed by tenant id.
    prepared: dict[str, Prepared] = field(default_factory=dict)
    locked_ms: dict[str, int] = field(default_factory=dict)

    def note_unlocked(self, tenant_id: str) -> None:
        """Record for how long the tenant's transaction, which has just ended, held its locks."""
        prepared = self.prepared.get(tenant_id)
        if prepared:
            self.locked_ms[tenant_id] = round((time.perf_counter() - prepared.locked_at) * 1000)

    def end(self, status: BatchStatus) -> BatchReport:
        """Close the record, with each tenant's measurements, and return the report."""
        measured = [
            (tenant_id, one.prepared_ms, self.locked_ms.get(tenant_id), one.locks and json.dumps(one.locks))
            for tenant_id, one in self.prepared.items()
        ]
        if measured:
            with connections[CONTROL].cursor() as cursor:
                cursor.execute(KEEP_TIMES, [*(list(column) for column in zip(*measured, strict=True)), self.record.pk])
        batch_end(self.record, status, problems=self.problems, timing_ms=self.timing_ms)
        self.on_progress(BatchProgress("end"))
        return self.report(status.value)

    def report(self, outcome: str) -> BatchReport:
        return BatchReport(
            batch_id=self.record.pk,
            outcome=outcome,
            dry_run=self.record.dry_run,
            version=self.release.version,
            tenant_count=self.record.tenant_count,
            pending_count=len(self.jobs),
            problems=self.problems,
            tenants=[self._outcome(job) for job in self.jobs],
            timing_ms=self.timing_ms,
        )

    def _outcome(self, job: Job) -> TenantOutcome:
        prepared = self.prepared.get(job.look.tenant.id)
        return TenantOutcome(
            tenant_id=job.look.tenant.id,
            server=job.look.server.name,
            from_version=self.release.version_of(job.look.history),
            to_version=self.release.version,
            migrations=job.script.migrations,
            prepared_ms=prepared.prepared_ms if prepared else None,
            locked_ms=self.locked_ms.get(job.look.tenant.id),
            locks=prepared.locks if prepared else None,
        )
