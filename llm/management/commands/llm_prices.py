from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand
from config.base.output import print_table
from llm.routing import model_prices_refresh


class Command(OperatorCommand):
    help = "Update the prices of the LLM models from a public price list; the cost of past steps does not change."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--online", action="store_true", help="Fetch today's list instead of the installed one.")
        parser.add_argument("--dry-run", action="store_true", help="Show what would change, without changing it.")
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        dry_run = options["dry_run"]
        return {"dry_run": dry_run, **asdict(model_prices_refresh(online=options["online"], dry_run=dry_run))}

    def present(self, document: Any) -> None:
        if not document["changes"]:
            self.stdout.write(_("All prices match the list."))
        elif document["dry_run"]:
            self.stdout.write(_("Would change (USD per 1,000 tokens, input / output):"))
        else:
            self.stdout.write(_("Changed (USD per 1,000 tokens, input / output):"))
        if document["changes"]:
            rows = [
                (f"{row['provider_id']}/{row['model_name']}", _pair(row["old"]), _pair(row["new"]))
                for row in document["changes"]
            ]
            print_table([_("model"), _("old"), _("new")], rows)
        if document["unknown"]:
            self.stdout.write(_("Not in the list, unchanged: %(models)s") % {"models": ", ".join(document["unknown"])})


def _pair(prices: dict[str, Any]) -> str:
    return " / ".join("-" if price is None else str(price) for price in (prices["input"], prices["output"]))
