"""Print tables, and format sizes and amounts for people."""

import sys
from collections.abc import Collection, Sequence
from decimal import Decimal

CENT, CENT_HUNDREDTH = Decimal("0.01"), Decimal("0.0001")


def size(size_bytes: int | None) -> str:
    """Format bytes for people: "12.3 MiB", "4.5 KiB"; "" for None."""
    if size_bytes is None:
        return ""
    return f"{size_bytes / 2**20:,.1f} MiB" if size_bytes >= 2**20 else f"{size_bytes / 2**10:.1f} KiB"


def dollars(amount: Decimal) -> str:
    """Format US dollars for a page, with cents or hundredths of a cent: "1,250.00", "0.0375".

    An amount that would be rounded to 0 is given in full, such as "0.00001".
    """
    rounded = amount.quantize(CENT_HUNDREDTH)
    if amount and not rounded:
        return f"{amount.normalize():f}"
    return f"{rounded:,.2f}" if rounded == rounded.quantize(CENT) else f"{rounded:,.4f}"


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Collection[int] = ()) -> None:
    """Print a table on stdout; `right` has the indexes of the columns to right-align.

    If stdout is not a terminal, each row is one line, however long, so that rows can be grepped.
    """
    from rich.console import Console  # slow to import, and --json does not need it
    from rich.table import Table
    from rich.text import Text

    cells = [[str(value) for value in row] for row in rows]
    width = None
    if not sys.stdout.isatty():
        cells = [[" ".join(cell.splitlines()) for cell in row] for row in cells]
        # A character takes two cells at most, and Rich puts two spaces between columns.
        width = sum(2 * max(map(len, column)) + 2 for column in zip(columns, *cells, strict=True))
    console = Console(file=sys.stdout, width=width, highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, overflow="fold", justify="right" if number in right else "left")
    for row in cells:
        # Not as plain strings, in which Rich looks for markup: an error message may contain brackets.
        table.add_row(*map(Text, row))
    console.print(table)
