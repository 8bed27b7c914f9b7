from argparse import ArgumentTypeError
from collections.abc import Mapping
from datetime import date
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand, Refusal
from config.base.output import print_table
from runs.costs.show import GROUPS, cost_rows, total_of
from runs.presentation.costs import cost_cells, cost_columns, cost_csv


class Command(OperatorCommand):
    help = "Show what calls to providers cost, by day, month, step, model or tenant."

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--tenant-id", help="Only the calls of this tenant.")
        which.add_argument("--all", action="store_true", help="The calls of all tenants.")
        parser.add_argument("--by", choices=sorted(GROUPS), default="month", help="What each row stands for.")
        parser.add_argument(
            "--from", dest="first", type=_day, metavar="DATE", help="The first day (UTC), such as 2026-11-01."
        )
        parser.add_argument("--to", dest="last", type=_day, metavar="DATE", help="The last day, which is included.")
        parser.add_argument("--csv", action="store_true", help="Print a table for spreadsheets.")
        super().add_arguments(parser)

    def check_options(self, options: Mapping[str, Any]) -> None:
        super().check_options(options)
        if options.get("csv") and options.get("json"):
            raise Refusal(_("--csv and --json cannot be used together."), code="options_conflict")
        first, last = options.get("first"), options.get("last")
        if first and last and first > last:
            raise Refusal(_("--from is after --to."), code="options_conflict")

    def perform(self, **options: Any) -> Any:
        self.is_csv, self.by = bool(options["csv"]), str(options["by"])
        rows = cost_rows(tenant_id=options["tenant_id"], by=self.by, first=options["first"], last=options["last"])
        if not options["json"]:
            return rows
        return {"by": self.by, "rows": [_document(row) for row in rows], "total": _document(total_of(rows))}

    def present(self, document: Any) -> None:
        if self.is_csv:
            self.stdout.write(cost_csv(self.by, document), ending="")
            return
        columns = cost_columns(self.by)
        print_table(columns, cost_cells(document), right=range(1, len(columns)))


def _document(row: Mapping[str, Any]) -> dict[str, object]:
    amounts = {name: None if row[name] is None else float(row[name]) for name in ("cost_usd", "possible_usd")}
    return {**row, **amounts}


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(_("%(text)r is not a date such as 2026-11-24") % {"text": text[:80]}) from None
