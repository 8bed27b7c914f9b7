"""A model whose provider fails again and again gets no calls for a while; then one call tests it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pytest_django import Settings

from runs.turns import Outcome, Turn, finish, snapshot, take, why
from tests.runs.turns.driving import (
    FAILED,
    NONE,
    OK,
    OTHER_ROUTE,
    ROUTE,
    Clock,
    Limits,
    enqueued,
    finish_all,
    take_all,
    taken,
)

pytestmark = pytest.mark.usefixtures("limit", "clock")


@pytest.fixture(autouse=True)
def backlog(limit: Limits) -> None:
    limit["tenants"] = 100
    enqueued("a", 60)


def in_flight(number: int) -> list[Turn]:
    return [taken() for _ in range(number)]


def state() -> str:
    seen = snapshot()
    assert seen is not None
    return next(one.breaker for one in seen.routes if one.route == ROUTE)


def open_it(times: int = 5) -> None:
    finish_all(in_flight(times), FAILED)


def test_it_opens_after_a_row_of_faults() -> None:
    open_it(4)
    assert state() == "closed"
    open_it(1)
    assert state() == "open"
    assert take().turn is None


def test_a_success_ends_the_row() -> None:
    open_it(4)
    finish(taken(), OK)
    open_it(4)
    assert state() == "closed"


@pytest.mark.parametrize("outcome", [NONE, Outcome("rate_limited", retry_after_s=0.001)])
def test_what_is_no_fault_of_the_provider_neither_counts_nor_ends_the_row(outcome: Outcome, clock: Clock) -> None:
    open_it(4)
    finish_all(in_flight(6), outcome)
    clock.advance(1)
    assert state() == "closed"
    open_it(1)
    assert state() == "open"


def test_a_rate_limit_without_a_time_is_a_fault() -> None:
    finish_all(in_flight(5), Outcome("rate_limited"))
    assert state() == "open"


def test_faults_that_are_far_apart_are_no_row(clock: Clock) -> None:
    open_it(4)
    clock.advance(61)
    open_it(4)
    assert state() == "closed"


def test_how_many_faults_it_takes_is_a_setting(settings: Settings) -> None:
    settings.LLM_BREAKER_FAULTS = 2
    open_it(2)
    assert state() == "open"


def test_the_providers_other_models_are_left_alone() -> None:
    open_it()
    [step] = enqueued("a", 1, OTHER_ROUTE)
    assert [turn.waiting for turn in take_all()] == [step]


def test_it_tells_until_when(clock: Clock) -> None:
    open_it()
    assert take().retry_in_s == 30.0
    [step] = enqueued("b")
    reason = why("b", step.run_id, step.step)
    assert reason is not None and reason.kind == "breaker"
    assert reason.until == datetime.fromtimestamp(clock.now_ms / 1000 + 30, UTC)


def test_after_its_time_one_call_tries(clock: Clock) -> None:
    open_it()
    clock.advance(29.999)
    assert take_all() == []
    clock.advance(0.001)
    assert state() == "half open"
    [probe] = take_all()
    assert state() == "probing"
    finish(probe, OK)
    assert state() == "closed"
    assert len(take_all()) > 10


def test_it_opens_for_twice_as_long_after_each_failed_trial_up_to_the_maximum(clock: Clock) -> None:
    open_it()
    for seconds in (30, 60, 120, 240, 300, 300):
        clock.advance(seconds - 0.001)
        assert take_all() == []
        clock.advance(0.001)
        [probe] = take_all()
        finish(probe, FAILED)
    clock.advance(300)
    finish(taken(), OK)
    # Everything is as it was at the beginning.
    open_it()
    clock.advance(30)
    assert len(take_all()) == 1


def test_a_trial_that_made_no_call_is_repeated_at_once(clock: Clock) -> None:
    open_it()
    clock.advance(30)
    finish(taken(), NONE)
    assert state() == "half open"
    assert len(take_all()) == 1


def test_a_trial_whose_worker_was_killed_is_repeated_after_its_lease(clock: Clock) -> None:
    open_it()
    clock.advance(30)
    taken()
    clock.advance(59.999)
    assert take_all() == []
    clock.advance(0.001)
    assert len(take_all()) == 1


def test_calls_that_began_before_it_opened_do_not_decide(clock: Clock) -> None:
    early = in_flight(12)
    finish_all(early[:5], FAILED)
    finish_all(early[5:10], FAILED)
    assert take().retry_in_s == 30.0
    finish(early[10], OK)
    assert state() == "open"
    clock.advance(30)
    [probe] = take_all()
    finish(early[11], FAILED)
    assert state() == "probing"
    finish(probe, OK)
    assert state() == "closed"


def test_the_jitter_spreads_the_trials_of_several_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.random", lambda: 0.0)
    open_it()
    assert take().retry_in_s == 22.5


# -- Retry-After ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rate_limited", "failed"])
def test_a_retry_after_closes_the_route_until_then(kind: str, clock: Clock) -> None:
    turns = in_flight(2)
    finish(turns[0], Outcome("rate_limited" if kind == "rate_limited" else "failed", retry_after_s=90))
    # A shorter one does not cut it short.
    finish(turns[1], Outcome("rate_limited", retry_after_s=5))
    [step] = enqueued("b", 1, OTHER_ROUTE)
    assert [turn.waiting for turn in take_all()] == [step]
    clock.advance(89.999)
    assert take_all() == []
    clock.advance(0.001)
    assert len(take_all()) > 10


def test_a_trial_that_meets_a_rate_limit_is_repeated_when_that_is_over(clock: Clock) -> None:
    open_it()
    clock.advance(30)
    finish(taken(), Outcome("rate_limited", retry_after_s=7))
    assert state() == "open"
    clock.advance(7)
    assert len(take_all()) == 1


def test_a_far_retry_after_sets_a_timer_of_an_hour() -> None:
    finish(taken(), Outcome("rate_limited", retry_after_s=80_000))
    assert take().retry_in_s == 3600.0
