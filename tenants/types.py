"""Frozen values that the tenants app hands out."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
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
