"""Frozen values passed between the modules of this app, and the documents that commands print."""

from dataclasses import dataclass, field
from typing import Literal, TypedDict
from uuid import UUID


@dataclass(frozen=True)
class PinnedStep:
    """The model and prompt that one step of a new run will use."""

    step: str
    # Starts at 0, no gaps.
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
    # Starts at 1; takeovers from lost workers count.
    attempt: int
    provider: str
    model: str
    # None: another program created the run, without pinning a prompt.
    prompt: PinnedPrompt | None
    # `Run.config`. It is customer content, so it is left out of `repr`, which may end up in logs.
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
    """A step's output, as stored in `output.json`."""

    run_id: UUID
    step: str
    provider: str
    model: str
    prompt_id: int
    prompt_version: int
    # sha256 of the rendered prompt: an output is reused only for the same input.
    input_digest: str
    text: str
    input_tokens: int
    output_tokens: int
    finish_reason: str


# The outcome of one wake-up.
StepOutcome = Literal["not claimed", "completed", "retried", "failed", "lost"]


@dataclass(frozen=True)
class SweepReport:
    """The result of one sweep."""

    tenants: int
    woken: int
    # Tenants that could not be swept; the next sweep tries again.
    skipped: int


class StepDocument(TypedDict):
    step: str
    status: str
    llm_provider: str | None
    llm_model: str | None
    token_usage: dict[str, int] | None
    retry_count: int
    error_message: str | None
    # From the first claim to completion, including waits between attempts; None until then.
    seconds: float | None
    output_path: str | None
    output_digest: str | None
    summary: str | None
    metrics: dict[str, object] | None


class CostDocument(TypedDict):
    # US dollars, to nine decimal places; None if no price is known.
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
