"""Make steps wait, and take and finish their turns."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import uuid4

from runs.turns import Outcome, Turn, Waiting, enqueue, finish, limits, store, take
from runs.turns.process import process

Limits = dict[str, int]
ROUTE = "openai/small"
OTHER_ROUTE = "openai/large"
OK = Outcome("ok")
FAILED = Outcome("failed")
NONE = Outcome("none")


@dataclass
class Clock:
    now_ms: int = 1_800_000_000_000

    def advance(self, seconds: float) -> None:
        self.now_ms += round(seconds * 1000)


def begin_anew() -> None:
    """Make this process forget its turns, the limits, and that the turns' server was unreachable."""
    process.reset()
    limits.forget()
    store._Health.ask_after = store._Health.log_after = 0.0


def waiting(tenant: str, route: str = ROUTE, step: str = "draft") -> Waiting:
    return Waiting(tenant, str(uuid4()), step, route)


def enqueued(tenant: str, number: int = 1, route: str = ROUTE) -> list[Waiting]:
    steps = [waiting(tenant, route) for _ in range(number)]
    for step in steps:
        enqueue(step)
    return steps


def taken() -> Turn:
    """Take a turn and return it; fail if no step may start."""
    turn = take().turn
    assert turn is not None
    return turn


def take_all() -> list[Turn]:
    """Take turns until no step may start; return them."""
    turns: list[Turn] = []
    while (turn := take().turn) is not None:
        turns.append(turn)
    return turns


def tenants_of(turns: list[Turn]) -> list[str]:
    return [turn.waiting.tenant_id for turn in turns]


def finish_all(turns: list[Turn], outcome: Outcome = OK) -> None:
    for turn in turns:
        finish(turn, outcome)
