"""Benchmark results, and printing them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.measure import quartiles


@dataclass(frozen=True)
class Row:
    name: str
    # One per round.
    values: Sequence[float]
    # The target for the median; None if the row only informs.
    at_most: float | None = None
    at_least: float | None = None
    # Shown as 0.25 or as 25 %.
    percent: bool = False

    @property
    def median(self) -> float:
        return quartiles(self.values)[1]

    @property
    def reached(self) -> bool | None:
        """Return whether the median, rounded to two decimals, reaches the target; None if there is no target."""
        if self.at_most is not None:
            return round(self.median, 2) <= self.at_most
        return round(self.median, 2) >= self.at_least if self.at_least is not None else None

    @property
    def aim(self) -> str:
        if self.at_most is not None:
            return f"≤ {self.at_most:g}"
        return f"≥ {self.at_least:g}" if self.at_least is not None else ""


@dataclass(frozen=True)
class Table:
    title: str
    rows: Sequence[Row]
    notes: Sequence[str] = field(default_factory=tuple)

    def lines(self) -> Iterator[str]:
        """Yield the title, a Markdown table that is also readable in a terminal, and the notes, line by line."""
        cells = [("", "median", "quartiles", "aim", "")] + [_cells(row) for row in self.rows]
        widths = [max(len(row[column]) for row in cells) for column in range(5)]
        yield f"## {self.title}"
        yield ""
        for number, row in enumerate(cells):
            padded = [row[0].ljust(widths[0])] + [row[column].rjust(widths[column]) for column in range(1, 5)]
            yield f"| {' | '.join(padded)} |"
            if number == 0:
                yield f"|{'|'.join(('-' * (width + 2)) for width in widths)}|"
        yield ""
        yield from self.notes


def _cells(row: Row) -> tuple[str, str, str, str, str]:
    lower, median, upper = quartiles(row.values)
    verdict = {True: "reached", False: "MISSED", None: ""}[row.reached]
    return row.name, _shown(row, median), f"{_shown(row, lower)} – {_shown(row, upper)}", row.aim, verdict


def _shown(row: Row, value: float) -> str:
    if row.percent:
        return f"{value:.0%}"
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"
