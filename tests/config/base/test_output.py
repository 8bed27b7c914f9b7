"""Tables for people at a terminal, and for grep."""

from __future__ import annotations

import pytest

from config.base.output import print_table


def test_a_row_that_goes_elsewhere_than_to_a_terminal_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    reason = "because " * 200 + "[end]"
    print_table(["id", "reason"], [(1, reason), (2, "two\nlines"), (3, "記" * 500)], right=[0])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["id  reason", f" 1  {reason}", " 2  two lines", f" 3  {'記' * 500}"]
