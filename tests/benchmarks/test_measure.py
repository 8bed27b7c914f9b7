"""Timing, ratios, and how they are shown."""

from functools import partial

import pytest

from benchmarks.measure import interleaved, quartiles, ratios, shares
from benchmarks.tables import Row, Table

pytestmark = pytest.mark.unit


def test_each_contender_is_timed_once_a_round_and_warm_up_is_discarded() -> None:
    calls: list[str] = []

    def contender(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    seconds = interleaved({name: partial(contender, name) for name in "abc"}, rounds=4, warm_up=2)

    assert [sorted(calls[start : start + 3]) for start in range(0, 18, 3)] == [["a", "b", "c"]] * 6
    assert {name: len(values) for name, values in seconds.items()} == {"a": 4, "b": 4, "c": 4}
    assert min(value for values in seconds.values() for value in values) > 6


def test_ratios_are_those_of_each_round() -> None:
    assert ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]


def test_one_round_has_no_spread() -> None:
    assert quartiles([1.5]) == (1.5, 1.5, 1.5)
    assert quartiles([3.0, 1.0, 2.0]) == (1.5, 2.0, 2.5)


def test_shares_are_of_their_own_repetition() -> None:
    assert shares([{"a": 1.0, "b": 3.0}, {"a": 1.0, "b": 1.0}]) == {"a": [0.25, 0.5], "b": [0.75, 0.5]}


@pytest.mark.parametrize(
    ("row", "reached"),
    [
        (Row("r", [1.05], at_most=1.05), True),
        (Row("r", [1.06], at_most=1.05), False),
        (Row("r", [2.0], at_least=2), True),
        (Row("r", [1.98], at_least=2), False),
        (Row("r", [1.0]), None),
    ],
)
def test_an_aim_is_reached_as_far_as_the_table_shows(row: Row, reached: bool | None) -> None:
    assert row.reached is reached


def test_a_table_shows_median_spread_and_verdict() -> None:
    table = Table("Speed", [Row("ours ÷ theirs", [1.0, 2.0, 3.0], at_most=1.3), Row("part", [0.25], percent=True)])
    lines = list(table.lines())

    assert lines[0] == "## Speed"
    assert [cell.strip() for cell in lines[4].split("|")[1:-1]] == [
        *("ours ÷ theirs", "2.00", "1.50 – 2.50", "≤ 1.3", "MISSED"),
    ]
    assert [cell.strip() for cell in lines[5].split("|")[1:-1]] == ["part", "25%", "25% – 25%", "", ""]
