"""Frozen values that `runs.turns` takes and returns."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

# Why a step is waiting: the tenant's steps before it; the steps that the tenant, the provider or the model has in
# flight; a limit per minute; or a route that is closed after faults or by the provider's Retry-After.
WaitKind = Literal[
    "turn",
    "tenant_limit",
    "provider_limit",
    "model_limit",
    "requests_per_minute",
    "tokens_per_minute",
    "breaker",
]
# "half open": one call may try the provider again; "probing": that call is in flight.
BreakerState = Literal["closed", "open", "half open", "probing"]


@dataclass(frozen=True)
class Waiting:
    """A step that is waiting for its turn."""

    tenant_id: str
    run_id: str
    step: str
    # "provider/model"; a provider's name has no slash, a model's may.
    route: str


@dataclass(frozen=True)
class Turn:
    """The right to execute a step, until `finish` or the end of a lease without `renew`."""

    waiting: Waiting
    # Opaque.
    token: str


@dataclass(frozen=True)
class Taken:
    """The result of `take`."""

    # None if nothing may start now.
    turn: Turn | None
    # Send one message after this many seconds; 0 means immediately, because more steps may start than there are
    # messages. None: send none.
    retry_in_s: float | None = None
    # Whether no step is waiting.
    empty: bool = False
    # A waiting step for that message to name.
    next: Waiting | None = None


@dataclass(frozen=True)
class Freed:
    """The result of `finish`."""

    # Send one message immediately: a waiting step may start now, and its message was dropped.
    startable: bool
    # Send one message after this many seconds; None: send none.
    retry_in_s: float | None = None
    # A waiting step for that message to name.
    next: Waiting | None = None


@dataclass(frozen=True)
class Outcome:
    """How a call ended, for the limits and the breaker."""

    # "failed": the provider's fault, which counts for the breaker. "rate_limited": it asked us to wait; without a
    # `retry_after_s` that counts as a fault. "none": no call was made, or its failure was not the provider's.
    kind: Literal["ok", "failed", "rate_limited", "none"]
    # Input and output tokens together, if known.
    tokens: int = 0
    # The provider's Retry-After; it closes the route until then, whatever the kind.
    retry_after_s: float | None = None


@dataclass(frozen=True)
class WaitReason:
    """Why a step is waiting."""

    kind: WaitKind
    route: str
    # The step's place among the tenant's waiting steps, by arrival; the first is 1.
    position: int
    # When the limit per minute or the breaker lets it start; None: when a call or a step ends.
    until: datetime | None = None


@dataclass(frozen=True)
class RouteLoad:
    """How many steps are waiting for a model and in flight with it, and the state of its breaker."""

    route: str
    waiting: int
    in_flight: int
    # None: no limit.
    limit: int | None
    # All models of the provider together.
    provider_in_flight: int
    provider_limit: int | None
    breaker: BreakerState
    # When an open breaker lets a call through; None if it is not open.
    until: datetime | None


@dataclass(frozen=True)
class TenantLoad:
    tenant_id: str
    waiting: int
    in_flight: int
    limit: int | None


@dataclass(frozen=True)
class Snapshot:
    """How many steps are waiting and in flight across all workers, by route and by tenant."""

    routes: tuple[RouteLoad, ...]
    tenants: tuple[TenantLoad, ...]
