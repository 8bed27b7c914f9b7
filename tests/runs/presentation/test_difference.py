"""Two texts side by side: which lines and parts are marked, and which lines are left out."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from runs.presentation.difference import Part, Row, side_by_side

pytestmark = pytest.mark.unit


def marks(row: Row) -> tuple[str, str]:
    return shown(row.old), shown(row.new)


def shown(parts: Sequence[Part] | None) -> str:
    return "".join(f"[{part.text}]" if part.is_marked else part.text for part in parts or ())


def test_a_changed_line_has_marks_on_what_differs() -> None:
    (row,) = side_by_side("緑茶は健康に良い。", "緑茶は心に良い。")
    assert row.kind == "changed" and (row.old_line, row.new_line) == (1, 1)
    assert marks(row) == ("緑茶は[健康]に良い。", "緑茶は[心]に良い。")


def test_lines_without_a_counterpart_are_removed_or_added() -> None:
    rows = side_by_side("a\nb\nc", "a\nc\nd")
    assert [(row.kind, *marks(row)) for row in rows] == [
        ("same", "a", "a"),
        ("removed", "[b]", ""),
        ("same", "c", "c"),
        ("added", "", "[d]"),
    ]


def test_equal_lines_far_from_a_change_are_left_out() -> None:
    lines = [f"line {number}" for number in range(40)]
    rows = side_by_side("\n".join(lines), "\n".join([*lines[:20], "entirely different", *lines[21:]]))
    assert [row.kind for row in rows] == ["gap", "same", "same", "same", "changed", "same", "same", "same", "gap"]
    assert rows[4].old_line == 21
    assert side_by_side("same\n", "same") == []
