"""Present what calls cost, as a table and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from decimal import Decimal

from django.utils.translation import gettext as _

from runs.costs.show import total_of
from runs.presentation.cost import at_least
from runs.steps.budget import usd
from runs.types import CostRow

# The first characters of what spreadsheets treat as a formula; the wide ones are treated so in Japanese.
FORMULA = (*"=+-@", *"＝＋－＠")
# A cell that begins with one of these can be moved, or lose it, and begin with what follows.
CONTROLS = ("\t", "\r", "\n")
# In the order of the columns; further units follow by name.
UNITS = ("input", "output", "cached_read", "cache_write_5m", "cache_write_1h", "reasoning")
# Without it, Excel reads the file in the computer's legacy code page.
BYTE_ORDER_MARK = "\ufeff"


def cost_columns(by: str) -> list[str]:
    """Return the headings of the table."""
    names = {"day": _("day"), "month": _("month"), "step": _("step"), "model": _("model"), "tenant": _("tenant")}
    figures = [_("calls"), _("input tokens"), _("output tokens"), _("cost (USD)")]
    return [names[by], *figures, _("calls with unknown cost"), _("calls without a price")]


def cost_cells(rows: Sequence[CostRow]) -> list[list[str]]:
    """Return the cells of the table by row. If there are several rows, a total follows as the last one."""
    total = [{**total_of(rows), "name": _("total")}] if len(rows) > 1 else []
    return [_cells(row) for row in (*rows, *total)]  # type: ignore[arg-type]


def cost_text(row: CostRow) -> str:
    """Return the known cost as text: "at least …" if part of the cost is unknown, "unknown" if all of it is."""
    if row["cost_usd"] is None:
        return _("unknown")
    return at_least(usd(row["cost_usd"]), bool(row["unknown_calls"] or row["unpriced_calls"]))


def cost_csv(by: str, rows: Sequence[CostRow]) -> str:
    """Return the rows as CSV: names are text and never formulas, numbers are plain, unknown amounts are empty.

    The text begins with a byte order mark.

    The first column is named after `by`, and each unit has a column `UNIT_tokens`. The other columns have the names of
    the JSON document's fields. Programs can rely on these names.
    """
    units = _units(rows)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    figures = ("calls", "unknown_calls", "unpriced_calls")
    writer.writerow([by, *figures, *(f"{inert(unit)}_tokens" for unit in units), "cost_usd", "possible_usd"])
    for row in rows:
        tokens = [row["token_usage"].get(unit, 0) for unit in units]
        amounts = [_plain(row["cost_usd"]), _plain(row["possible_usd"])]
        counts = [row["calls"], row["unknown_calls"], row["unpriced_calls"]]
        writer.writerow([inert(row["name"]), *counts, *tokens, *amounts])
    return BYTE_ORDER_MARK + text.getvalue()


def inert(text: str) -> str:
    """Return the text, with an apostrophe before it if a spreadsheet could treat it as a formula."""
    return f"'{text}" if text.startswith(CONTROLS) or text.lstrip().startswith(FORMULA) else text


def _cells(row: CostRow) -> list[str]:
    tokens = (f"{row['token_usage'].get(unit, 0):,}" for unit in UNITS[:2])
    return [row["name"], f"{row['calls']:,}", *tokens, cost_text(row), _unknown(row), f"{row['unpriced_calls']:,}"]


def _unknown(row: CostRow) -> str:
    # With calls without a price, the amount would be theirs too, or leave some out.
    if not row["unknown_calls"] or row["unpriced_calls"] or row["possible_usd"] is None:
        return f"{row['unknown_calls']:,}"
    return _("%(n)d (at most USD %(amount)s)") % {"n": row["unknown_calls"], "amount": usd(row["possible_usd"])}


def _units(rows: Iterable[CostRow]) -> list[str]:
    found = {unit for row in rows for unit in row["token_usage"]}
    return [*UNITS[:2], *(unit for unit in UNITS[2:] if unit in found), *sorted(found - {*UNITS})]


def _plain(amount: Decimal | None) -> str:
    return "" if amount is None else f"{amount.normalize():f}"
