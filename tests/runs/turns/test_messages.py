"""Waiting steps occupy no thread and nothing polls: each step that may start has a message, or gets one."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field

import pytest

from runs.turns import Outcome, Turn, Waiting, enqueue, finish, take
from tests.runs.turns.driving import (
    FAILED,
    OK,
    OTHER_ROUTE,
    ROUTE,
    Clock,
    Limits,
    enqueued,
    finish_all,
    taken,
    waiting,
)


def test_who_ends_a_step_sends_a_message_for_one_whose_message_was_dropped(limit: Limits) -> None:
    limit["provider:openai:calls"] = 1
    steps = enqueued("a", 3)
    turn = taken()
    assert take().turn is None
    freed = finish(turn, OK)
    assert (freed.startable, freed.next, freed.retry_in_s) == (True, steps[1], None)


def test_no_message_is_sent_while_each_step_has_one_under_way(limit: Limits) -> None:
    limit["provider:openai:calls"] = 1
    enqueued("a", 3)
    freed = finish(taken(), OK)
    assert not freed.startable
    assert take().retry_in_s is None


def test_more_room_at_once_is_filled_by_each_step_that_starts(limit: Limits, clock: Clock) -> None:
    steps = enqueued("a", 10)
    finish_all([taken() for _ in range(5)], FAILED)
    # The breaker is open; the other five messages are dropped, and one comes back when it may.
    assert [take().retry_in_s for _ in range(5)] == [30.0, None, None, None, None]
    clock.advance(30)
    probe = take()
    assert probe.turn is not None and probe.retry_in_s is None
    freed = finish(probe.turn, OK)
    assert freed.startable
    for _ in range(3):
        found = take()
        assert found.turn is not None and found.retry_in_s == 0.0 and found.next in steps
    last = take()
    assert last.turn is not None and last.retry_in_s is None
    assert take().empty


@dataclass
class Workers:
    """Simulates any number of workers with one message queue, and a provider whose calls end at random times.

    There is no sweep.
    """

    clock: Clock
    dice: random.Random
    # (when it arrives, order)
    messages: list[tuple[int, int]] = field(default_factory=list)
    calls: list[tuple[int, int, Turn]] = field(default_factory=list)
    done: list[Waiting] = field(default_factory=list)
    sent: int = 0
    timers: int = 0
    most: int = 0

    def send(self, delay_s: float) -> None:
        self.sent += 1
        self.timers += delay_s > 0
        heapq.heappush(self.messages, (self.clock.now_ms + round(delay_s * 1000), self.sent))

    def submit(self, step: Waiting) -> None:
        enqueue(step)
        self.send(0)

    def run(self) -> None:
        """Advance time from event to event until no message is under way and no call is running."""
        while self.messages or self.calls:
            next_message = self.messages[0][0] if self.messages else None
            if next_message is not None and (not self.calls or next_message <= self.calls[0][0]):
                self.clock.now_ms = max(self.clock.now_ms, heapq.heappop(self.messages)[0])
                self.receive()
            else:
                ends, _order, turn = heapq.heappop(self.calls)
                self.clock.now_ms = max(self.clock.now_ms, ends)
                self.end(turn)

    def receive(self) -> None:
        found = take()
        if found.turn is not None:
            # Shorter than a lease, so nothing needs to be renewed.
            ends = self.clock.now_ms + self.dice.randrange(100, 30_000)
            heapq.heappush(self.calls, (ends, len(self.done) * 1000 + self.sent, found.turn))
            self.most = max(self.most, len(self.calls))
        if found.retry_in_s is not None:
            self.send(found.retry_in_s)

    def end(self, turn: Turn) -> None:
        fails = self.dice.random() < 0.2
        outcome = FAILED if fails else Outcome("ok", tokens=self.dice.randrange(1000))
        if fails and self.dice.random() < 0.3:
            outcome = Outcome("rate_limited", retry_after_s=self.dice.uniform(0.1, 50))
        if fails:
            self.submit(turn.waiting)
        else:
            self.done.append(turn.waiting)
        freed = finish(turn, outcome)
        if freed.startable:
            self.send(0)
        if freed.retry_in_s is not None:
            self.send(freed.retry_in_s)


@pytest.mark.parametrize("seed", range(6))
def test_no_step_is_stranded_whatever_blocks_it(seed: int, limit: Limits, clock: Clock) -> None:
    dice = random.Random(seed)
    limit.update({"tenants": dice.choice([3, 48]), "model:openai/small:calls": dice.choice([1, 5, 20])})
    if seed % 2:
        limit.update({"provider:openai:requests": 20, "model:openai/large:tokens": 9000})
    workers = Workers(clock, dice)
    steps = [waiting(f"tenant-{dice.randrange(4)}", dice.choice([ROUTE, OTHER_ROUTE])) for _ in range(150)]
    for step in steps:
        workers.submit(step)
    workers.run()
    assert sorted(workers.done, key=str) == sorted(steps, key=str)
    assert take().empty
    # One message per step and attempt, and one in place of each that was dropped: no polling.
    assert workers.sent - workers.timers <= 3 * 150


def test_what_there_is_room_for_is_in_flight(limit: Limits, clock: Clock) -> None:
    limit["model:openai/small:calls"] = 25
    workers = Workers(clock, random.Random(1))
    for _ in range(100):
        workers.submit(waiting("a"))
    workers.run()
    assert workers.most == 25
