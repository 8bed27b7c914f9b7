"""Frozen values: what is asked of a model, what comes back, and what the catalogue says."""

from dataclasses import dataclass, field
from decimal import Decimal

# What the providers call an output that hit its limit.
_TRUNCATED = frozenset({"max_tokens", "length", "MAX_TOKENS", "CONTINUATION", "model_context_window_exceeded"})


@dataclass(frozen=True)
class TokenUsage:
    """What the provider counted and bills, reasoning included."""

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, kw_only=True)
class LLMRequest:
    """One prompt, one answer. The texts are left out of `repr`, which ends up in logs."""

    model: str
    prompt: str = field(repr=False)
    system: str = field(default="", repr=False)
    max_output_tokens: int
    # For the whole answer; see `llm.clients.http` for what it bounds exactly.
    timeout_s: float


@dataclass(frozen=True, kw_only=True)
class LLMReply:
    """A text that is not empty, and real token counts."""

    text: str = field(repr=False)
    usage: TokenUsage
    # As the provider says it, which may be a dated version of what was asked for.
    model: str
    # The provider's own word: "end_turn", "STOP", "stop", "max_tokens" …
    finish_reason: str

    @property
    def truncated(self) -> bool:
        """Whether the text ends where the limit was reached, and not where the model meant it to."""
        return self.finish_reason in _TRUNCATED


@dataclass(frozen=True)
class ResolvedModel:
    """A model to call, with its prices of now (USD; None: unknown)."""

    provider_id: str
    # None: the provider's own public address, or LOCAL_LLM_URL.
    api_base_url: str | None
    model_name: str
    model_class: str
    cost_per_1k_input_tokens: Decimal | None
    cost_per_1k_output_tokens: Decimal | None
    max_output_tokens: int


@dataclass(frozen=True)
class PipelineStep:
    step: str
    position: int
    provider_id: str
    model_class: str


@dataclass(frozen=True)
class SeedReport:
    """What `catalogue_seed` inserted; all empty where nothing was missing."""

    providers: tuple[str, ...]
    # "provider/model"
    models: tuple[str, ...]
    steps: tuple[str, ...]


@dataclass(frozen=True)
class StepDefaultChange:
    """A step's routing before and after; the two may be the same."""

    step: str
    old_provider_id: str
    old_model_class: str
    provider_id: str
    model_class: str
    # What a run would now use.
    model_name: str

    @property
    def changed(self) -> bool:
        return (self.old_provider_id, self.old_model_class) != (self.provider_id, self.model_class)


@dataclass(frozen=True)
class Prices:
    """USD per 1,000 tokens; None: unknown."""

    input: Decimal | None
    output: Decimal | None


@dataclass(frozen=True)
class PriceChange:
    provider_id: str
    model_name: str
    old: Prices
    new: Prices


@dataclass(frozen=True)
class PricesReport:
    """What `prices_refresh` did, or would do."""

    changes: tuple[PriceChange, ...]
    # "provider/model", each of them left as it was.
    unchanged: tuple[str, ...]
    unknown: tuple[str, ...]
