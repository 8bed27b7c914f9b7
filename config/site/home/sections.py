"""The parts of a first page: sections of rows that each lead to where a person can act."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

# Rows of a section; its title says how many there are in all.
ROWS_MAX = 8


@dataclass(frozen=True)
class Row:
    """One thing that needs attention, and the page on which to act."""

    text: str
    url: str
    badge: str = ""
    # One of the theme's colors: default (gray), info, primary, success, warning or danger.
    color: str = ""
    tenant: str = ""
    # The reason, in a sentence or a few words.
    detail: str = ""
    at: datetime | None = None


@dataclass(frozen=True)
class Section:
    """Rows under a title; `empty` is the sentence that is shown if there are none."""

    key: str
    title: str
    empty: str
    rows: Sequence[Row] = field(default_factory=tuple)
    total: int = 0
    # The page that lists all of them; "" if there is none.
    more_url: str = ""

    @property
    def hidden(self) -> int:
        """Return how many rows are not shown."""
        return max(0, self.total - len(self.rows))
