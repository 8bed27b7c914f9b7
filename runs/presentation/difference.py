"""Compare two texts side by side: find removed, added and changed lines, and the differing parts of changed lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Literal

# Longer lines are compared as wholes: the time to mark the characters grows with the square of their number.
MAX_LINE_CHARS = 600
# Below this similarity, marked characters are noise.
SIMILAR = 0.4
# As many equal lines as are shown around a change.
CONTEXT_LINES = 3


@dataclass(frozen=True)
class Part:
    """A piece of a line."""

    text: str
    is_marked: bool = False


@dataclass(frozen=True)
class Row:
    """A line of the old text and one of the new text. None: that text has no such line; both are None in a gap."""

    kind: Literal["same", "changed", "removed", "added", "gap"]
    old: Sequence[Part] | None = None
    new: Sequence[Part] | None = None
    old_line: int | None = None
    new_line: int | None = None


def side_by_side(old: str, new: str) -> list[Row]:
    """Return the rows of the comparison, or [] if no line differs. A "gap" stands for equal lines that are left out."""
    before, after = old.splitlines(), new.splitlines()
    if before == after:
        return []
    matcher = SequenceMatcher(None, before, after)
    rows: list[Row] = []
    groups = list(matcher.get_grouped_opcodes(CONTEXT_LINES))
    for position, group in enumerate(groups):
        if position or group[0][1]:
            rows.append(Row("gap"))
        for tag, *span in group:
            rows.extend(_rows(tag, before, after, span))
    if groups[-1][-1][2] < len(before):
        rows.append(Row("gap"))
    return rows


def _rows(tag: str, before: Sequence[str], after: Sequence[str], span: Sequence[int]) -> Iterator[Row]:
    old_from, old_to, new_from, new_to = span
    olds = list(enumerate(before[old_from:old_to], old_from + 1))
    news = list(enumerate(after[new_from:new_to], new_from + 1))
    for old, new in zip_longest(olds, news):
        if old is None:
            yield Row("added", None, [Part(new[1], True)], None, new[0])
        elif new is None:
            yield Row("removed", [Part(old[1], True)], None, old[0], None)
        elif tag == "equal":
            yield Row("same", [Part(old[1])], [Part(new[1])], old[0], new[0])
        else:
            yield Row("changed", *_marked(old[1], new[1]), old[0], new[0])


def _marked(old: str, new: str) -> tuple[list[Part], list[Part]]:
    """Return the parts of a changed line, old and new, with marks on what differs; on all of it if little is alike.

    Lines that are too long to compare are also marked as a whole.
    """
    if max(len(old), len(new)) > MAX_LINE_CHARS:
        return [Part(old, True)], [Part(new, True)]
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    if matcher.ratio() < SIMILAR:
        return [Part(old, True)], [Part(new, True)]
    olds, news = [], []
    for tag, old_from, old_to, new_from, new_to in matcher.get_opcodes():
        olds += [Part(old[old_from:old_to], tag != "equal")] if old_to > old_from else []
        news += [Part(new[new_from:new_to], tag != "equal")] if new_to > new_from else []
    return olds, news
