from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from config.base.command import OperatorCommand, Refusal
from config.base.output import print_table
from runs.summaries.reconcile import Reconciliation, run_reconcile


class Command(OperatorCommand):
    help = "Rebuild the control database's summaries of the runs from the tenants' databases, or compare them."

    found: list[Reconciliation]

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--tenant-id", help="Only the runs of this tenant.")
        which.add_argument("--all", action="store_true", help="The runs of all active and suspended tenants.")
        parser.add_argument("--check", action="store_true", help="Only compare; exit 1 if there are differences.")
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        self.is_check = bool(options["check"])
        self.found = run_reconcile(tenant_id=options["tenant_id"], check=self.is_check)
        return [asdict(one) for one in self.found]

    def present(self, document: Any) -> None:
        columns = [_("tenant"), _("runs"), _("differences"), _("awaiting sweep")]
        counted = ("tenant_id", "runs", "difference_count", "waiting")
        print_table(columns, [[one[name] for name in counted] for one in document if not one["problem"]])
        differing = [(one["tenant_id"], difference) for one in document for difference in one["differences"]]
        if differing:
            self.stdout.write("")
            print_table(
                [_("tenant"), _("run"), _("difference")],
                [(tenant, one["run_id"], _difference(one)) for tenant, one in differing],
            )

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options)
        problems = [f"{one.tenant_id}: {one.problem}" for one in self.found if one.problem]
        if problems:
            raise Refusal("\n".join(problems), code="tenants_not_reconciled")
        count = sum(one.difference_count for one in self.found)
        if count and self.is_check:
            raise Refusal(
                ngettext(
                    "There is %(count)d difference between the control database's summaries and the runs.",
                    "There are %(count)d differences between the control database's summaries and the runs.",
                    count,
                )
                % {"count": count},
                hint=_("Run the command without --check to rebuild the summaries."),
                code="run_summaries_differ",
            )


def _difference(difference: dict[str, Any]) -> str:
    columns = ", ".join(difference["columns"])
    return {
        "missing": _("no summary"),
        "surplus": _("no such run"),
        "different": _("differs in %(columns)s") % {"columns": columns},
    }[difference["kind"]]
