"""Frozen values: requests to models, their replies, and entries of the catalogue."""

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field, fields
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

# The finish reason for output that filled the context window. Other providers do not tell it from the output limit.
CONTEXT_FULL = "model_context_window_exceeded"
# The providers' finish reasons for output that reached its limit, in lower case: compatible servers differ in that.
TRUNCATED = frozenset(
    {"length", "max_tokens", "max_output_tokens", "continuation", "token_limit", CONTEXT_FULL},
)


@dataclass(frozen=True)
class TokenUsage:
    """What the provider counted and bills.

    The two totals include the other units, which have prices of their own. A unit that the provider omits is 0.
    """

    input_tokens: int
    output_tokens: int
    # Parts of the input: read from the provider's cache, and written to it for 5 minutes or for 1 hour.
    cached_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    # Part of the output.
    reasoning: int = 0

    def __add__(self, other: "TokenUsage") -> "TokenUsage":
        return TokenUsage(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    def as_document(self, long_context_over: int | None = None) -> dict[str, int]:
        """Return the value of a row's `token_usage`: `input` and `output`, and each further unit that is not 0.

        The usage is that of one call. If its input exceeds `long_context_over`, all of it is counted a second time, in
        units with the prefix `long_`, so that sums over calls keep what was used at the higher prices.
        """
        units = {unit: getattr(self, unit) for unit in _UNITS}
        totals = {"input": self.input_tokens, "output": self.output_tokens}
        document = totals | {unit: tokens for unit, tokens in units.items() if tokens}
        if long_context_over is None or self.input_tokens <= long_context_over:
            return document
        return document | {LONG + unit: tokens for unit, tokens in document.items()}

    @classmethod
    def from_document(cls, document: Mapping[str, int]) -> "TokenUsage":
        """Return the usage that `as_document` wrote. Rows of earlier releases have the totals alone."""
        units = {unit: document.get(unit, 0) for unit in _UNITS}
        return cls(document.get("input", 0), document.get("output", 0), **units)


_UNITS = tuple(unit.name for unit in fields(TokenUsage))[2:]
# The units that have prices. `input` and `output` cover the tokens that are in no other unit.
UNITS = ("input", "output", *_UNITS)
# Prefix of a unit: the part of it, or its price, in calls whose input exceeds the model's long-context threshold.
LONG = "long_"


@dataclass(frozen=True)
class ModelPrices:
    """USD per 1,000 tokens of a model by unit, exact; units as in `TokenUsage.as_document`.

    A unit that is missing has no known price, except that reasoning then costs as much as the rest of the output.
    """

    units: Mapping[str, Decimal] = field(default_factory=dict)
    # Tokens; a call with more input pays the `long_` prices for everything. None: there is no such threshold.
    long_context_over: int | None = None

    def as_document(self) -> dict[str, Any]:
        """Return the document for a row's `prices`, with decimals as text, because JSON numbers are not decimal."""
        prices: dict[str, Any] = {unit: format(price.normalize(), "f") for unit, price in self.units.items()}
        return prices if self.long_context_over is None else prices | {"long_context_over": self.long_context_over}

    @classmethod
    def from_document(cls, document: Mapping[str, Any] | None) -> "ModelPrices":
        """Return the prices that `as_document` wrote; they are empty if there is no document."""
        prices = dict(document or {})
        threshold = prices.pop("long_context_over", None)
        return cls({unit: Decimal(price) for unit, price in prices.items()}, threshold)

    def column(self, unit: str) -> Decimal | None:
        """Return a unit's price as a model's price column holds it, rounded to six decimal places; None if unknown."""
        price = self.units.get(unit)
        return None if price is None else price.quantize(_COLUMN_PLACES, ROUND_HALF_UP)


_COLUMN_PLACES = Decimal("0.000001")


@dataclass(frozen=True, kw_only=True)
class LLMRequest:
    """One prompt. `repr` omits the texts, because it ends up in logs."""

    model: str
    prompt: str = field(repr=False)
    system: str = field(default="", repr=False)
    # Lengths, in characters and ascending, of the beginnings of the prompt that another call's prompt may share. They
    # are marked for providers that cache only marked text.
    cache_points: tuple[int, ...] = ()
    max_output_tokens: int
    # For the whole call: connecting, waiting and the last byte of the reply.
    timeout_s: float
    # The longest wait for the next part of a reply, such as a token or a keep-alive, once the first token has arrived.
    # Until then only `timeout_s` applies, because a reasoning model may be silent for minutes. None: no such limit.
    stall_timeout_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class LLMReply:
    """A non-empty text, and the provider's token counts."""

    text: str = field(repr=False)
    usage: TokenUsage
    # As the provider reports it, which may be a dated version of the requested model.
    model: str
    # In the provider's own terms: "end_turn", "STOP", "stop", "max_tokens" …
    finish_reason: str
    # The id by which the provider finds the call in its own logs; "" if it sent none.
    request_id: str = ""

    @property
    def truncated(self) -> bool:
        """Whether the text was truncated because the output limit, or the context window, was reached."""
        return self.finish_reason.lower() in TRUNCATED

    @property
    def filled_context(self) -> bool:
        """Whether the context window was full, so that a larger output limit would not help."""
        return self.finish_reason.lower() == CONTEXT_FULL


@dataclass(frozen=True)
class ProviderAccess:
    """How to call a provider: the wire that it speaks, its address, and the variable that holds its key."""

    provider_id: str
    # One of `llm.models.Wire`.
    wire: str
    # None: the vendor's own public address, or LOCAL_LLM_URL.
    api_base_url: str | None = None
    # "": it needs no key.
    key_variable: str = ""


@dataclass(frozen=True)
class ResolvedModel:
    """A model to call, with the prices in effect now."""

    provider_id: str
    wire: str
    # None: the vendor's own public address, or LOCAL_LLM_URL.
    api_base_url: str | None
    key_variable: str
    model_name: str
    model_class: str
    prices: ModelPrices
    max_output_tokens: int
    # Prompt and output together; None: unknown.
    context_window: int | None = None
    # Whether model and provider are active, and the provider has not retired the model. Only
    # `find_model` checks this.
    is_active: bool = True

    @property
    def access(self) -> ProviderAccess:
        return ProviderAccess(self.provider_id, self.wire, self.api_base_url, self.key_variable)


@dataclass(frozen=True)
class Fallback:
    """What a step uses if its own model cannot be called."""

    provider_id: str
    model_class: str

    def __str__(self) -> str:
        return f"{self.provider_id}:{self.model_class}"

    def as_document(self) -> dict[str, str]:
        """Return an item for a row's list `fallbacks`."""
        return {"provider": self.provider_id, "model_class": self.model_class}

    @classmethod
    def from_document(cls, document: Mapping[str, str]) -> "Fallback":
        return cls(document["provider"], document["model_class"])

    @classmethod
    def parse(cls, text: str, *, model_class: str) -> "Fallback":
        """Return the fallback that a person named as "provider:class", or as "provider" for `model_class`."""
        provider_id, colon, named = text.strip().rpartition(":")
        return cls(provider_id.strip(), named.strip()) if colon else cls(named, model_class)


@dataclass(frozen=True)
class PipelineStep:
    step: str
    position: int
    provider_id: str
    model_class: str
    # Whether runs pause before this step until someone approves it.
    review: bool = False
    # One of `llm.models.OnTruncation`.
    on_truncation: str = "retry"
    # Whether only the workers have the key of the provider or of a fallback.
    key_at_workers: bool = False
    # In order.
    fallbacks: tuple[Fallback, ...] = ()


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
    old_key_at_workers: bool = False
    # The providers, of the route or of a fallback, whose key is missing here.
    keys_at_workers: tuple[str, ...] = ()
    old_fallbacks: tuple[Fallback, ...] = ()
    fallbacks: tuple[Fallback, ...] = ()

    @property
    def key_at_workers(self) -> bool:
        return bool(self.keys_at_workers)

    @property
    def changed(self) -> bool:
        old = (self.old_provider_id, self.old_model_class, self.old_key_at_workers, self.old_fallbacks)
        return old != (self.provider_id, self.model_class, self.key_at_workers, self.fallbacks)


@dataclass(frozen=True)
class ProviderCheck:
    """The result of testing a provider, with one call at most."""

    provider_id: str
    # None: the provider has no active model.
    model_name: str | None
    # Of the error; "" if the provider answered.
    code: str = ""
    message: str = ""
    hint: str = ""
    # None: not stated, or no call was made.
    input_tokens: int | None = None
    output_tokens: int | None = None
    # From the request to the end of the reply; None: no call was made.
    seconds: float | None = None

    @property
    def works(self) -> bool:
        return not self.code
