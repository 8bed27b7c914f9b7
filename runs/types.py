"""Frozen values that pass between the parts of the engine, and the documents that commands print."""

from dataclasses import dataclass, field
from typing import Literal, TypedDict
from uuid import UUID


@dataclass(frozen=True)
class PinnedStep:
    """What one step of a new run is going to run with."""

    step: str
    # From 0, without gaps.
    position: int
    provider: str
    model: str
    prompt_id: int


@dataclass(frozen=True)
class PinnedPrompt:
    """The version of a prompt that a step uses."""

    id: int
    version: int
    content: str = field(repr=False)
    variables: object = field(repr=False)


@dataclass(frozen=True)
class Claim:
    """The right to work on a step until the lease ends or another claim raises the token."""

    tenant_id: str
    run_id: UUID
    step: str
    step_id: int
    token: int
    # From 1; takeovers from lost workers count.
    attempt: int
    provider: str
    model: str
    # None: the run was not made by us, and has no prompt pinned.
    prompt: PinnedPrompt | None
    # `Run.config`. Content: left out of `repr`, which ends up in logs.
    config: object = field(repr=False)


@dataclass(frozen=True)
class StoredFile:
    """A file in the storage."""

    # storage/{tenant_id}/{run_id}/{step}/…
    path: str
    # sha256, lower-case hexadecimal.
    digest: str
    size_bytes: int


@dataclass(frozen=True)
class StepOutput:
    """What a step made, as `output.json` holds it."""

    run_id: UUID
    step: str
    provider: str
    model: str
    prompt_id: int
    prompt_version: int
    # sha256 of the rendered prompt: the same input, the same output.
    input_digest: str
    text: str
    input_tokens: int
    output_tokens: int
    finish_reason: str


# How one wake-up ended.
StepOutcome = Literal["not claimed", "completed", "retried", "failed", "lost"]


@dataclass(frozen=True)
class SweepReport:
    """What one sweep found."""

    tenants: int
    woken: int
    # Tenants that could not be visited; the next sweep tries again.
    skipped: int


class StepDocument(TypedDict):
    step: str
    status: str
    llm_provider: str | None
    llm_model: str | None
    token_usage: dict[str, int] | None
    retry_count: int
    error_message: str | None
    # From the first claim to the end, waits between attempts included; None until then.
    seconds: float | None
    output_path: str | None
    output_digest: str | None
    summary: str | None
    metrics: dict[str, object] | None


class CostDocument(TypedDict):
    # US dollars, to nine places; None where no price is known.
    total_llm_cost: float | None
    total_input_tokens: int | None
    total_output_tokens: int | None
    unpriced_steps: int


class ArtifactDocument(TypedDict):
    step: str
    file_type: str
    file_path: str
    digest: str | None


class RunDocument(TypedDict):
    tenant_id: str
    id: str
    status: str
    current_step: str | None
    config: dict[str, object] | None
    created_at: str
    steps: list[StepDocument]
    cost: CostDocument
    artifacts: list[ArtifactDocument]


class RunSummary(TypedDict):
    """A run in a list."""

    tenant_id: str
    id: str
    status: str
    current_step: str | None
    keyword: str | None
    created_at: str
    updated_at: str
