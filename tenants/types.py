"""Frozen values that the tenants app hands out."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True)
class ActiveTenant:
    """The tenant that the current code works for."""

    id: str
    # Django's database alias, "tenant:<id>".
    alias: str
    # What the tenant's database must say it is.
    identity: UUID


@dataclass(frozen=True)
class Progress:
    """One step of an operation has been reached; commands format it, services never print."""

    tenant_id: str
    step: str


OnProgress = Callable[[Progress], None]


def ignore_progress(progress: Progress) -> None:
    """The default listener."""


# Of a migration of tenants, in their order; "commit" or "roll back".
PHASES = ("check", "rehearse", "prepare", "decide", "commit", "roll back")


@dataclass(frozen=True)
class BatchProgress:
    """How far a migration of tenants is: `done` of `total` in this phase."""

    # One of PHASES, or "end".
    phase: str
    done: int = 0
    total: int = 0
    # Which tenant was done last, or what is rehearsed.
    subject: str = ""


OnBatchProgress = Callable[[BatchProgress], None]


def ignore_batch_progress(progress: BatchProgress) -> None:
    """The default listener."""


@dataclass(frozen=True)
class TenantOutcome:
    """One tenant of a batch."""

    tenant_id: str
    server: str
    from_version: str
    to_version: str
    # ["runs.0003_x", …]
    migrations: list[str]
    prepared_ms: int | None
    locked_ms: int | None
    # {"runs": "AccessExclusiveLock"}, of a dry run.
    locks: dict[str, str] | None


@dataclass(frozen=True)
class BatchReport:
    """What became of a migration of tenants."""

    batch_id: UUID
    # "completed"; "rolled_back": nothing has changed anywhere; "unfinished": `tenant recover` ends it.
    outcome: str
    dry_run: bool
    version: str
    # How many were looked at, and how many of them had something to apply.
    tenant_count: int
    pending_count: int
    # What stood in the way: one sentence each, with the tenant's or the server's name.
    problems: list[str]
    tenants: list[TenantOutcome]
    # Milliseconds by phase.
    timing_ms: dict[str, int]


@dataclass(frozen=True)
class RestoreReport:
    """What became of a restore, and how the restored state differs from the replaced one. Run ids, and paths."""

    tenant_id: str
    operation_id: UUID
    source: str
    # Of the restored schema; which migrations brought it there, and where it differs from what they make.
    version: str
    migrations: list[str]
    drift: list[str]
    # By table, as loaded; {} where nothing was loaded.
    rows: dict[str, int]
    # At work in the restored state, so they were failed.
    failed_runs: list[str]
    # Only in the replaced state, only in the restored one, and those whose status is another.
    lost_runs: list[str]
    returned_runs: list[str]
    changed_runs: list[str]
    # Files that were brought back, are not what a row says, and those that no row refers to.
    restored_files: list[str]
    missing_files: list[str]
    orphans: list[str]
    # Wake-ups in the broker of runs that no longer exist, removed; None where the broker does not tell.
    stale_messages: int | None
    # Until when the replaced state can be put back.
    kept_until: datetime | None
    # For how long the tenant was closed; None where another process went on with it.
    unavailable_ms: int | None = None
    seconds: float | None = field(default=None)

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        kept_until = self.kept_until.isoformat() if self.kept_until else None
        return {**asdict(self), "operation_id": str(self.operation_id), "kept_until": kept_until}


@dataclass(frozen=True)
class Verification:
    """What was found of one backup."""

    file: str
    # "" where it could not even be told.
    tenant_id: str
    # One sentence, "" where it is whole.
    problem: str
    seconds: float


@dataclass(frozen=True)
class DrillReport:
    """A restore that was tried out."""

    tenant_id: str
    source: str
    version: str
    # By table.
    rows: dict[str, int]
    # By step: "recover", "load", "verify", "migrate".
    timing_s: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class CloneReport:
    """A tenant that was made from another's data, or brought in from elsewhere."""

    tenant_id: str
    from_tenant: str
    source: str
    version: str
    # By table.
    rows: dict[str, int]
    # Paths that rows refer to, of files that were not to be had.
    missing_files: list[str]
    # Of an import: providers, models and steps that this installation did not have.
    added: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Target:
    """What to recover to: exactly one of the two."""

    # Aware. Of all transactions, those that were committed at or before it.
    time: datetime | None = None
    # A restore point's.
    name: str | None = None

    def __post_init__(self) -> None:
        if (self.time is None) == (self.name is None):
            raise ValueError("either a time or a name")
        if self.time is not None and self.time.tzinfo is None:
            raise ValueError("a time without its zone")

    def __str__(self) -> str:
        return self.name or utc(self.time)


def utc(moment: datetime | None) -> str:
    """Write a time with microseconds and its offset, as PostgreSQL reads it."""
    assert moment is not None
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00"
