"""Frozen values passed between the modules of this app, and the documents that commands print."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal, TypedDict
from uuid import UUID

from llm.types import ResolvedModel


class PinnedFallback(TypedDict):
    """A model that a step may use instead of its own."""

    provider: str
    model: str


@dataclass(frozen=True)
class PinnedStep:
    """The model and prompt that one step of a new run will use."""

    step: str
    # Starts at 0, no gaps.
    position: int
    provider: str
    model: str
    prompt_id: int
    # Whether the run pauses before this step until someone approves it.
    review: bool
    # One of `llm.models.OnTruncation`.
    on_truncation: str
    # The tenant's own output limit; None: the model's.
    output_limit: int | None = None
    # Models to use if this one cannot be called, in order.
    fallbacks: tuple[PinnedFallback, ...] = ()


@dataclass(frozen=True)
class PinnedPrompt:
    """The version of a prompt that a step uses."""

    id: int
    version: int
    content: str = field(repr=False)
    variables: object = field(repr=False)


@dataclass(frozen=True)
class Claim:
    """The right to work on a step. It ends when the step stops running, or its token is raised, as by a later claim."""

    tenant_id: str
    run_id: UUID
    step: str
    step_id: int
    token: int
    # Starts at 1; attempts that were lost with their worker count.
    attempt: int
    # Attempts that failed, without the lost ones.
    failures: int
    # The step's version: only an output with the same version answers the step.
    version: int
    provider: str
    model: str
    # The model as it is in the catalogue now; None: it was removed.
    resolved: ResolvedModel | None
    # A call with more input tokens is billed at the pinned long-context prices; None: there are none.
    long_context_over: int | None
    # The output limit of the next call: one that a truncated reply has raised, or the tenant's own; None: the model's.
    max_output_tokens: int | None
    # One of `llm.models.OnTruncation`.
    on_truncation: str
    is_last: bool
    # The first failure since the step was last started anew; None if no attempt has failed since then.
    failing_since: datetime | None
    # What a reviewer wants changed.
    review_comment: str | None = field(repr=False)
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
    # Added later: outputs that an earlier release wrote lack these fields.
    version: int = 1
    # The call that returned the text. It is settled with this output, whichever worker stores it.
    call_id: int | None = None
    # The provider's id of that call.
    request_id: str | None = None
    # The tokens by unit, as `Step.token_usage`.
    token_usage: dict[str, int] = field(default_factory=dict)
    is_truncated: bool = False


# The outcome of one wake-up. "returned": the step is due again, without using up an attempt.
StepOutcome = Literal["not claimed", "completed", "retried", "failed", "lost", "returned"]


@dataclass(frozen=True)
class SweepReport:
    """The result of one sweep."""

    tenants: int
    woken: int
    # Tenants that could not be swept; the next sweep tries again.
    skipped: int


class RunOutcome(TypedDict):
    """The outcome for one run that was to be paused, resumed, retried, cancelled, approved or sent back."""

    run_id: str
    outcome: Literal["done", "refused"]
    # The run's status now; None if the run is refused.
    status: str | None
    # Why the run is refused: the error's code and its sentence; None if it is done.
    code: str | None
    message: str | None


class RunsReport(TypedDict):
    tenant_id: str
    runs: list[RunOutcome]
    done: int
    refused: int
    # The number of considered runs whose state does not allow the transition.
    skipped: int


class CallsDocument(TypedDict):
    """The number of calls, in total and by status."""

    count: int
    open: int
    settled: int
    # They may have been billed, but their outcome is unknown.
    unknown: int


# Why a step left its route: its breaker was open, or the model is inactive, retired or no longer in the catalogue.
RerouteReason = Literal["breaker_open", "model_inactive"]

ReroutedDocument = TypedDict("ReroutedDocument", {"from": str, "reason": RerouteReason})


class StepDocument(TypedDict):
    step: str
    status: str
    llm_provider: str | None
    llm_model: str | None
    # The route that the step left for a fallback, and why; None: it did not.
    rerouted: ReroutedDocument | None
    token_usage: dict[str, int] | None
    # Attempts that failed, and attempts in a row that were lost with their worker.
    retry_count: int
    lost_count: int
    # The number of the attempt that is running, is next, or was the last; starts at 1.
    attempt: int
    # Increases each time the step is run again from the start.
    version: int
    error_message: str | None
    started_at: str | None
    completed_at: str | None
    # From the first claim to completion, including waits between attempts; None until then.
    seconds: float | None
    # When a step that is waiting for a retry is due, and since when its attempts have failed.
    not_before: str | None
    failing_since: str | None
    output_path: str | None
    output_digest: str | None
    is_truncated: bool
    summary: str | None
    metrics: dict[str, object] | None
    calls: CallsDocument
    # Whether the run pauses before the step until someone approves it, who did, and what a reviewer wants changed.
    review: bool
    approved_at: str | None
    approved_by: str | None
    review_comment: str | None


class CostDocument(TypedDict):
    # US dollars, rounded to nine decimal places, and exact as text; None if no price is known.
    total_llm_cost: float | None
    exact_llm_cost: str | None
    total_input_tokens: int | None
    total_output_tokens: int | None
    # {unit: tokens}: all tokens by unit, and the tokens without a known price.
    tokens_by_unit: dict[str, int]
    unpriced_tokens: dict[str, int]
    unpriced_steps: int
    # US dollars, exact: what the provider's cache saved; negative if writing it cost more; None: nothing was cached.
    cache_saving: str | None
    # Calls that may have been billed, and the most that they can have cost, which `total_llm_cost` does not contain;
    # None if there are no such calls, or if a price is not known.
    unknown_calls: int
    unknown_cost_limit: float | None


class SpendingDocument(TypedDict):
    """What the calls that began in a month have cost, and may still cost, in US dollars."""

    # "2026-11", in UTC.
    month: str
    spent_usd: float
    # The upper bounds of calls in progress; and those of calls whose outcome is unknown, with what is left of the
    # bounds of settled calls that used a unit without a price.
    reserved_usd: float
    possible_usd: float
    # Calls without a known price, which the sums contain only in part, or not at all.
    unpriced_calls: int
    # When the budget's warning threshold was reached; None: not yet.
    warned_at: str | None


class CostRow(TypedDict):
    """What the calls of one day, month, step, model or tenant cost."""

    # Such as "2026-11-24", "draft", "openai/gpt-6.1-sol" or the tenant's id.
    name: str
    calls: int
    # Of these, calls with unknown cost, and calls without a known price.
    unknown_calls: int
    unpriced_calls: int
    token_usage: dict[str, int]
    # US dollars: the known cost of the calls (None if there is none), and the most that they can have cost beyond that
    # (None if no such bound is known).
    cost_usd: Decimal | None
    possible_usd: Decimal | None


class ArtifactDocument(TypedDict):
    step: str
    file_type: str
    file_path: str
    digest: str | None
    # Whether the step output that it contains was truncated.
    is_truncated: bool
    # The step's version; None means the present one.
    version: int | None


# What a run is waiting for: a person ("paused", "hold", "review"), a larger budget ("budget"), a worker ("worker"; "no
# worker": none has been seen in the last day; "lost worker": its worker was lost and another one will take over), the
# time of a retry ("retry"), or its turn (the others: `runs.turns`).
WaitReason = Literal[
    "paused",
    "hold",
    "review",
    "budget",
    "worker",
    "no worker",
    "lost worker",
    "retry",
    "turn",
    "tenant_limit",
    "provider_limit",
    "model_limit",
    "requests_per_minute",
    "tokens_per_minute",
    "breaker",
]


class WaitDocument(TypedDict):
    """Why a run is waiting."""

    reason: WaitReason
    # The step that is next.
    step: str | None
    # Who paused the run.
    by: str | None
    since: str | None
    # When the wait ends; None if that depends on something other than time.
    until: str | None
    # The failure after which a retry is waiting, or why the budget does not suffice.
    error: str | None
    # When any worker was last seen.
    worker_seen_at: str | None
    # "provider/model", and the place in the tenant's queue (the first is 1).
    route: str | None
    position: int | None


class RunDocument(TypedDict):
    tenant_id: str
    id: str
    status: str
    current_step: str | None
    config: dict[str, object] | None
    created_at: str
    updated_at: str
    # When the first step was started; when the run was completed or failed.
    started_at: str | None
    ended_at: str | None
    # When the document was read, by the database's clock.
    read_at: str
    # None if it is not waiting.
    waiting: WaitDocument | None
    is_truncated: bool
    steps: list[StepDocument]
    cost: CostDocument
    artifacts: list[ArtifactDocument]


class ListedRun(TypedDict):
    """A run in a list."""

    tenant_id: str
    id: str
    status: str
    pause_cause: str | None
    current_step: str | None
    # None in a list over all tenants, which contains no inputs.
    keyword: str | None
    # The step that failed or is failing, and the beginning of its message.
    error_step: str | None
    error: str | None
    # Attempts of all steps that failed or were lost; None in a list over all tenants.
    retries: int | None
    is_truncated: bool
    created_at: str
    updated_at: str
    ended_at: str | None
    # Seconds since the run ended or was paused; otherwise, since it was created.
    age_s: float
