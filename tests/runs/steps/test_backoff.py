"""When a failed attempt is tried again."""

import pytest

from runs.steps.backoff import LONGEST_ASKED_S, LONGEST_S, delay_s

pytestmark = pytest.mark.unit


def test_each_attempt_waits_twice_as_long() -> None:
    assert [delay_s(attempt, None, jitter=1.0) for attempt in (1, 2, 3, 4)] == [2.0, 4.0, 8.0, 16.0]


def test_jitter_takes_away_up_to_a_half() -> None:
    assert delay_s(3, None, jitter=0.0) == 4.0
    assert 4.0 <= delay_s(3, None) <= 8.0


def test_our_own_wait_has_an_end() -> None:
    assert delay_s(10_000, None, jitter=1.0) == LONGEST_S


def test_the_providers_retry_after_is_the_minimum() -> None:
    assert delay_s(1, 120.0, jitter=1.0) == 120.0
    assert delay_s(5, 0.5, jitter=1.0) == 32.0


@pytest.mark.parametrize(("asked", "expected"), [(1e12, LONGEST_ASKED_S), (float("inf"), LONGEST_ASKED_S)])
def test_an_excessive_retry_after_is_capped(asked: float, expected: float) -> None:
    assert delay_s(1, asked) == expected


@pytest.mark.parametrize("asked", [-5.0, 0.0, float("nan")])
def test_invalid_retry_after_is_ignored(asked: float) -> None:
    assert delay_s(1, asked, jitter=1.0) == 2.0
