"""Frozen values: requests to models, their replies, and entries of the catalogue."""

from dataclasses import dataclass, field
from decimal import Decimal

# The providers' finish reasons for output that reached its limit.
_TRUNCATED = frozenset({"max_tokens", "length", "MAX_TOKENS", "CONTINUATION", "model_context_window_exceeded"})


@dataclass(frozen=True)
class TokenUsage:
    """What the provider counted and bills, reasoning included."""

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, kw_only=True)
class LLMRequest:
    """One prompt. `repr` omits the texts, because it ends up in logs."""

    model: str
    prompt: str = field(repr=False)
    system: str = field(default="", repr=False)
    max_output_tokens: int
    # For the whole answer; `llm.clients.http` says exactly what it limits.
    timeout_s: float


@dataclass(frozen=True, kw_only=True)
class LLMReply:
    """A non-empty text, and the provider's token counts."""

    text: str = field(repr=False)
    usage: TokenUsage
    # As the provider reports it, which may be a dated version of the requested model.
    model: str
    # In the provider's own terms: "end_turn", "STOP", "stop", "max_tokens" …
    finish_reason: str

    @property
    def truncated(self) -> bool:
        """Whether the text ends because the output limit was reached."""
        return self.finish_reason in _TRUNCATED


@dataclass(frozen=True)
class ResolvedModel:
    """A model to call, with its current prices (USD; None: unknown)."""

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
    """What `catalogue_seed` inserted; empty if nothing was missing."""

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
    # The model that new runs use.
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
    # "provider/model"; both groups were left unchanged.
    unchanged: tuple[str, ...]
    unknown: tuple[str, ...]
