from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from config.base.command import OperatorCommand, Refusal
from config.base.output import print_table
from runs.costs.reconcile import CostReconciliation, cost_reconcile


class Command(OperatorCommand):
    help = "Rebuild the control database's daily costs from the calls in the tenants' databases, or compare them."

    found: list[CostReconciliation]

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--tenant-id", help="Only the costs of this tenant.")
        which.add_argument("--all", action="store_true", help="The costs of all active and suspended tenants.")
        parser.add_argument("--check", action="store_true", help="Only compare; exit 1 if there are differences.")
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        self.is_check = bool(options["check"])
        self.found = cost_reconcile(tenant_id=options["tenant_id"], check=self.is_check)
        return [asdict(one) for one in self.found]

    def present(self, document: Any) -> None:
        columns = [_("tenant"), _("days"), _("differences"), _("awaiting sweep")]
        compared = [one for one in document if not one["problem"]]
        rows = [(one["tenant_id"], one["days"], len(one["differing"]), one["waiting"]) for one in compared]
        print_table(columns, rows, right=range(1, len(columns)))
        differing = [(one["tenant_id"], ", ".join(one["differing"])) for one in document if one["differing"]]
        if differing:
            self.stdout.write("")
            days = _("days whose costs differ") if self.is_check else _("days whose costs differed")
            print_table([_("tenant"), days], differing)

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options)
        problems = [f"{one.tenant_id}: {one.problem}" for one in self.found if one.problem]
        if problems:
            raise Refusal("\n".join(problems), code="costs_not_reconciled")
        count = sum(len(one.differing) for one in self.found)
        if count and self.is_check:
            raise Refusal(
                ngettext(
                    "The control database's costs for %(count)d day differ from those of the calls.",
                    "The control database's costs for %(count)d days differ from those of the calls.",
                    count,
                )
                % {"count": count},
                hint=_("Run the command without --check to rebuild the costs."),
                code="daily_costs_differ",
            )
