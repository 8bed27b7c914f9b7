"""Values about copies of prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict
from uuid import UUID


class Change(TypedDict):
    """What a copy changed in one tenant: a step's active version before and after, with their ids; None if there is no
    active version.
    """

    step: str
    before: int | None
    before_id: int | None
    after: int | None
    after_id: int | None


@dataclass(frozen=True)
class Source:
    """A version that is copied. Its id means nothing in another tenant."""

    step: str
    version: int
    content: str
    variables: list[dict[str, object]]
    note: str


@dataclass(frozen=True)
class StepDifference:
    """What a copy would change, or has changed, for one step of one tenant."""

    tenant_id: str
    step: str
    # The active version before; None if the step had no active prompt.
    before: int | None
    # The new version; None in a dry run, which creates none.
    after: int | None
    # In the unified format; "" except in a dry run.
    diff: str


@dataclass(frozen=True)
class CopyReport:
    """The outcome of a copy, or of its undo."""

    # None in a dry run.
    batch_id: UUID | None
    # "completed"; "rolled_back": nothing has changed anywhere; "unfinished": `tenant recover` finishes it.
    outcome: str
    dry_run: bool
    # How many tenants were checked, and how many of them have something to change.
    tenant_count: int
    pending_count: int
    differences: list[StepDifference]
    problems: list[str]
    timing_ms: dict[str, int]
