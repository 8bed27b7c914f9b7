from collections.abc import Mapping
from datetime import date
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand, Refusal
from config.base.output import print_table
from llm.prices.history import today
from llm.prices.refresh import prices_apply, prices_compare
from llm.prices.types import PriceChange, PricesReport
from llm.prices.unit_names import THRESHOLD, unit_name
from llm.routing import retiring_steps


class Command(OperatorCommand):
    help = (
        "Compare the prices of the LLM models with a public price list, and apply chosen ones; the cost of past steps"
        " does not change."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--online", action="store_true", help="Fetch today's list instead of the installed one.")
        parser.add_argument("--apply", action="store_true", help="Apply the list's prices; needs --model or --all.")
        which = parser.add_mutually_exclusive_group()
        which.add_argument("--model", action="append", metavar="PROVIDER/MODEL", help="A model; may be repeated.")
        which.add_argument("--all", action="store_true", help="Every model.")
        parser.add_argument("--overwrite", action="store_true", help="Replace prices that were set by hand, too.")
        parser.add_argument("--dry-run", action="store_true", help="Change nothing, as without --apply.")
        super().add_arguments(parser)

    def check_options(self, options: Mapping[str, Any]) -> None:
        super().check_options(options)
        is_chosen = bool(options["model"] or options["all"])
        if options["apply"] != is_chosen or (options["overwrite"] and not options["apply"]):
            raise Refusal(
                _("--apply needs --model or --all. --model, --all and --overwrite can only be used with --apply."),
                code="options_conflict",
                returncode=2,
            )

    def perform(self, **options: Any) -> Any:
        applies = options["apply"] and not options["dry_run"]
        if not applies:
            return _document(prices_compare(online=options["online"]), dry_run=True)
        report = prices_apply(models=options["model"], online=options["online"], overwrite=options["overwrite"])
        return _document(report, dry_run=False)

    def present(self, document: Any) -> None:
        changes = document["changes"]
        if not changes:
            self.stdout.write(_("No price differs from the list."))
        else:
            self.stdout.write(
                _("Prices that differ from the list (USD per 1,000 tokens):")
                if document["dry_run"]
                else _("Prices that differed from the list (USD per 1,000 tokens):")
            )
            columns = [_("model"), _("valid from"), _("unit"), _("old price"), _("new price"), _("outcome")]
            print_table(columns, [row for change in changes for row in _rows(change)])
        if any(change["outcome"] == "kept" for change in changes):
            self.stdout.write(_("Prices set by hand are kept; --overwrite replaces them."))
        elif document["dry_run"] and changes:
            self.stdout.write(
                _(
                    "To apply them, pass --apply with either --model or --all, and without --dry-run. Prices set by"
                    " hand also need --overwrite."
                )
            )
        if document["unknown"]:
            models = ", ".join(document["unknown"])
            self.stdout.write(_("Not in the list, or without usable prices there: %(models)s") % {"models": models})
        if document["deprecated"]:
            models = ", ".join(document["deprecated"])
            self.stdout.write(
                _("Retired or being retired according to the price list: %(models)s") % {"models": models}
            )
        for step in document["retiring"]:
            self.stderr.write(self.style.WARNING(_("Step %(step)s: %(message)s") % step))


def _document(report: PricesReport, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "changes": [_change(change) for change in report.changes],
        "unchanged": report.unchanged,
        "unknown": report.unknown,
        "deprecated": report.deprecated,
        "retiring": [{"step": step, "message": message} for step, message in retiring_steps()],
    }


def _change(change: PriceChange) -> dict[str, Any]:
    return {
        "provider_id": change.provider_id,
        "model_name": change.model_name,
        "valid_from": change.valid_from,
        "old": change.old.as_document(),
        "new": change.new.as_document(),
        "by_hand": change.by_hand,
        "outcome": change.outcome,
    }


def _rows(change: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return a line for each unit whose price differs; the first one names the model."""
    old, new = change["old"], change["new"]
    units = [unit for unit in {**new, **old} if old.get(unit) != new.get(unit)]
    head = (f"{change['provider_id']}/{change['model_name']}", _day(change["valid_from"]))
    # As in the JSON; but the threshold is not a price.
    names = [unit_name(unit) if unit == THRESHOLD else unit for unit in units]
    prices = [(name, str(old.get(unit, "-")), str(new.get(unit, "-"))) for name, unit in zip(names, units, strict=True)]
    return [(*head, *prices[0], _outcome(change)), *(("", "", *price, "") for price in prices[1:])]


def _day(begins: date) -> str:
    return str(begins) if begins > today() else _("now")


def _outcome(change: dict[str, Any]) -> str:
    if change["outcome"] == "applied":
        return _("applied")
    if change["outcome"] == "kept":
        return _("kept: set by hand")
    return _("set by hand") if change["by_hand"] else ""
