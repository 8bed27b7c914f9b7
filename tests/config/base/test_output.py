"""How amounts and joined sentences are written; outside a terminal, a table has one line per row."""

from __future__ import annotations

from decimal import Decimal

import pytest

from config.base.errors import joined
from config.base.output import dollars, print_table

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0", "0.00"),
        ("0E-15", "0.00"),
        ("50", "50.00"),
        ("1250.5", "1,250.50"),
        ("0.030000", "0.03"),
        ("0.0375", "0.0375"),
        ("12.34567", "12.3457"),
        ("0.00001", "0.00001"),
    ],
)
def test_dollars_have_cents_or_hundredths_of_a_cent(amount: str, text: str) -> None:
    assert dollars(Decimal(amount)) == text


def test_sentences_are_joined_as_the_language_writes_them() -> None:
    assert joined("It failed.", "", "Try again.") == "It failed. Try again."
    assert joined("失敗しました。", "もう一度試してください。") == "失敗しました。もう一度試してください。"


def test_a_row_that_goes_elsewhere_than_to_a_terminal_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    reason = "because " * 200 + "[end]"
    print_table(["id", "reason"], [(1, reason), (2, "two\nlines"), (3, "記" * 500)], right=[0])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["id  reason", f" 1  {reason}", " 2  two lines", f" 3  {'記' * 500}"]
