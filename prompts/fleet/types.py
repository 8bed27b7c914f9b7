"""Values that describe a copy of prompts: its sources, changes and differences, its preview and its report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict
from uuid import UUID


class Change(TypedDict):
    """What a copy or its undo changed for one step of a tenant: the active versions before and after, with their ids.

    Numbers and ids are None if there was, or is, no active version.
    """

    step: str
    before: int | None
    before_id: int | None
    after: int | None
    after_id: int | None


class PreviewedChange(Change):
    """What a copy would change: `after` is the number that the new version would get, which has no id yet."""

    # Of the active version's template and variables.
    before_sha256: str | None


@dataclass(frozen=True)
class Source:
    """A version that is copied, without its id, which means nothing in another tenant."""

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
    # The active version after; None in a dry run, and if an undo left the step without one.
    after: int | None
    # In the unified format; "" except in a dry run.
    diff: str


@dataclass(frozen=True)
class CopyReport:
    """The outcome of a copy, or of its undo."""

    # None in a dry run.
    batch_id: UUID | None
    # "completed"; "rolled_back": nothing has changed anywhere; "unfinished": `tenant recover` finishes or undoes it.
    outcome: str
    dry_run: bool
    # How many tenants were checked, and how many of them have something to change.
    tenant_count: int
    pending_count: int
    differences: list[StepDifference]
    problems: list[str]
    timing_ms: dict[str, int]


@dataclass(frozen=True)
class CopyPreview:
    """What a copy would change. The record of the batch has each tenant's `PreviewedChange`s."""

    # The record of the preview; None if there are problems.
    batch_id: UUID | None
    # How many tenants were compared, and how many of them would change.
    tenant_count: int
    pending_count: int
    # The versions that would be copied: [{"step", "version", "sha256"}].
    prompts: list[dict[str, object]]
    # Whether no other tenant is left out.
    to_all: bool
    problems: list[str]


@dataclass(frozen=True)
class Previewed:
    """What a copy has to find again: a preview's record, and the versions that it compared."""

    preview_id: str
    prompts: list[dict[str, object]]
