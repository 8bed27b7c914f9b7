"""Random sequences of enqueue, take, renew, finish and passing time: the script decides as the oracle does."""

from __future__ import annotations

import os
import random

import pytest

from runs.turns import Outcome, Turn, enqueue, finish, renew, take
from tests.runs.turns.driving import Clock, Limits, waiting
from tests.runs.turns.oracle import Oracle

ROUTES = ("openai/small", "openai/large", "claude/haiku")
TENANTS = "abcde"
STEPS = 250
ROUNDS = 2 * int(os.environ.get("CHAOS_ROUNDS", "6"))


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_the_script_decides_as_the_oracle(seed: int, limit: Limits, clock: Clock) -> None:
    dice = random.Random(seed)
    limit.update(some_limits(dice))
    play = Play(dice, clock, Oracle(clock, limit))
    for _ in range(STEPS):
        play.move()
        play.check(limit)


class Play:
    def __init__(self, dice: random.Random, clock: Clock, oracle: Oracle) -> None:
        self.dice, self.clock, self.oracle = dice, clock, oracle
        self.turns: list[Turn] = []
        self.moves = (self.enqueue, self.take, self.take, self.finish, self.finish, self.renew, self.wait)

    def move(self) -> None:
        self.dice.choice(self.moves)()

    def enqueue(self) -> None:
        for _ in range(self.dice.randrange(1, 6)):
            step = waiting(self.dice.choice(TENANTS), self.dice.choice(ROUTES))
            enqueue(step)
            self.oracle.waiting.append(step)

    def take(self) -> None:
        expected = self.oracle.choose()
        found = take()
        assert (found.turn.waiting if found.turn else None) == expected
        assert found.empty == (not self.oracle.waiting)
        if found.turn is not None:
            self.turns.append(found.turn)
            self.oracle.start(found.turn)

    def finish(self) -> None:
        # Even after their leases: a worker that was frozen comes back.
        if self.turns:
            turn, outcome = self.turns.pop(self.dice.randrange(len(self.turns))), some_outcome(self.dice)
            finish(turn, outcome)
            self.oracle.finish(turn, outcome)

    def renew(self) -> None:
        some = self.dice.sample(self.turns, self.dice.randrange(len(self.turns) + 1))
        renew(some)
        for turn in some:
            self.oracle.renew(turn)

    def wait(self) -> None:
        self.clock.advance(self.dice.choice([0.001, 0.3, 1, 10, 29.5, 61, 120]))

    def check(self, limit: Limits) -> None:
        """Check that no more requests than the limit began within the last minute, as the oracle counts them."""
        for name, most in limit.items():
            if name.endswith(":requests"):
                assert self.oracle.last_minute(name) <= most


def some_limits(dice: random.Random) -> Limits:
    possible: Limits = {
        "tenants": dice.randrange(1, 6),
        "tenant:a": dice.randrange(1, 8),
        "provider:openai:calls": dice.randrange(1, 8),
        "model:openai/small:calls": dice.randrange(1, 5),
        "provider:openai:requests": dice.randrange(1, 12),
        "model:claude/haiku:requests": dice.randrange(1, 5),
        "provider:claude:tokens": dice.randrange(1, 3000),
        "model:openai/large:tokens": dice.randrange(1, 2000),
    }
    return {name: limit for name, limit in possible.items() if name == "tenants" or dice.random() < 0.6}


def some_outcome(dice: random.Random) -> Outcome:
    return dice.choice(
        [
            Outcome("ok", tokens=dice.randrange(500)),
            Outcome("ok", tokens=dice.randrange(500)),
            Outcome("failed"),
            Outcome("failed"),
            Outcome("failed", retry_after_s=float(dice.randrange(1, 50))),
            Outcome("rate_limited", retry_after_s=float(dice.randrange(1, 90))),
            Outcome("none"),
        ]
    )
