"""Frozen values that the tenants app takes and returns."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID


@dataclass(frozen=True)
class ActiveTenant:
    """The tenant that the current code is working for."""

    id: str
    # Django's database alias, "tenant:<id>".
    alias: str
    # The identity that the tenant's database must have.
    identity: UUID
    # The most that its calls may cost in a month, and in a run, in US dollars; None: no budget.
    monthly_budget_usd: Decimal | None = None
    run_budget_usd: Decimal | None = None


@dataclass(frozen=True)
class Progress:
    """An operation has reached a step. Commands print it; services never do."""

    tenant_id: str
    step: str


OnProgress = Callable[[Progress], None]


def ignore_progress(progress: Progress) -> None:
    """Do nothing: the default listener."""


# The phases of a batch, in order. Only migrations rehearse, and only copies of prompts compare; the last phase is
# "commit" or "roll back".
PHASES = ("check", "rehearse", "compare", "prepare", "decide", "commit", "roll back")


@dataclass(frozen=True)
class BatchProgress:
    """Progress of a batch of tenants: `done` of `total` in this phase."""

    # One of PHASES, or "end".
    phase: str
    done: int = 0
    total: int = 0
    # The tenant that was finished last, or what is being rehearsed.
    subject: str = ""


OnBatchProgress = Callable[[BatchProgress], None]


def ignore_batch_progress(progress: BatchProgress) -> None:
    """Do nothing: the default listener."""


@dataclass(frozen=True)
class TenantOutcome:
    """The outcome of a migration for one of its tenants."""

    tenant_id: str
    server: str
    from_version: str
    to_version: str
    # ["runs.0003_x", …]
    migrations: list[str]
    prepared_ms: int | None
    locked_ms: int | None
    # {"runs": "AccessExclusiveLock"}: the locks that a dry run took.
    locks: dict[str, str] | None


@dataclass(frozen=True)
class BatchReport:
    """The outcome of a migration of tenants."""

    batch_id: UUID
    # "completed"; "rolled_back": nothing has changed anywhere; "unfinished": `tenant recover` finishes it.
    outcome: str
    dry_run: bool
    version: str
    # How many were checked, and how many of them had something to apply.
    tenant_count: int
    pending_count: int
    # One sentence for each problem, with the tenant's or the server's name.
    problems: list[str]
    tenants: list[TenantOutcome]
    # Milliseconds by phase.
    timing_ms: dict[str, int]


@dataclass(frozen=True)
class RestoreReport:
    """The outcome of a restore, and how the restored state differs from the replaced one, as run ids and paths."""

    tenant_id: str
    operation_id: UUID
    source: str
    # The restored schema's version, the migrations applied to it, and how it differs from what they create.
    version: str
    migrations: list[str]
    drift: list[str]
    # The number of rows by table, as loaded; {} if nothing was loaded.
    rows: dict[str, int]
    # Runs marked as failed, since they were in progress in the restored state or had continued in the replaced one.
    failed_runs: list[str]
    # Runs only in the replaced state, runs only in the restored one, and runs whose status differs.
    lost_runs: list[str]
    returned_runs: list[str]
    changed_runs: list[str]
    # Files that were restored, files that are missing or differ from their row, and files that no row refers to.
    restored_files: list[str]
    missing_files: list[str]
    orphans: list[str]
    # How many items each of these six lists would have if it were not cut (`tenants.restore.reconcile`).
    counts: dict[str, int]
    # The number of wake-ups for missing runs removed from the broker; None if the broker cannot list messages.
    stale_messages: int | None
    # The restore can be undone until then.
    kept_until: datetime | None
    # How long the tenant was closed; None if another process finished the restore.
    unavailable_ms: int | None = None
    seconds: float | None = field(default=None)

    def document(self) -> dict[str, Any]:
        """Return the report as a JSON document."""
        kept_until = self.kept_until.isoformat() if self.kept_until else None
        return {**asdict(self), "operation_id": str(self.operation_id), "kept_until": kept_until}


@dataclass(frozen=True)
class Verification:
    """The result of verifying one backup."""

    file: str
    # "" if unknown.
    tenant_id: str
    # One sentence; "" if the backup is intact.
    problem: str
    seconds: float


@dataclass(frozen=True)
class DrillReport:
    """The result of a restore drill."""

    tenant_id: str
    source: str
    version: str
    # The number of rows by table.
    rows: dict[str, int]
    # Seconds by step: "recover", "load", "verify", "migrate".
    timing_s: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class CloneReport:
    """The result of a clone or an import."""

    tenant_id: str
    from_tenant: str
    source: str
    version: str
    # The number of rows by table.
    rows: dict[str, int]
    # Paths that rows refer to, but whose files were not available.
    missing_files: list[str]
    # For an import: providers, models and steps that this installation did not have.
    added: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Target:
    """The target of a recovery: either a time or the name of a restore point."""

    # Timezone-aware. Transactions that were committed at or before this time are included.
    time: datetime | None = None
    # The name of a restore point.
    name: str | None = None

    def __post_init__(self) -> None:
        if (self.time is None) == (self.name is None):
            raise ValueError("either a time or a name")
        if self.time is not None and self.time.tzinfo is None:
            raise ValueError("a time without its zone")

    def __str__(self) -> str:
        return self.name or utc(self.time)


def utc(moment: datetime | None) -> str:
    """Format a time in UTC, with microseconds and the offset +00, for PostgreSQL."""
    assert moment is not None
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00"
