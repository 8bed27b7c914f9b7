from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand, Refusal
from config.base.output import print_table
from config.base.times import to_minute
from tenants.erasure.verify import ErasureCheck, erasures_verify


class Command(OperatorCommand):
    help = "Verify everywhere that erasures still hold; exit with status 1 if one does not."
    checks: list[ErasureCheck]

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--tenant-id", help="The id that the tenant had.")
        which.add_argument("--all", action="store_true", help="Every erasure.")
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        self.checks = erasures_verify(tenant_id=options["tenant_id"])
        return [asdict(check) | {"holds": not check.problems} for check in self.checks]

    def present(self, document: Any) -> None:
        if not document:
            self.stdout.write(_("No tenant has been erased."))
            return
        print_table(
            [_("tenant"), _("erased at"), _("erasure holds"), _("remaining, as certified")],
            [
                (
                    row["tenant_id"],
                    to_minute(row["completed_at"]) if row["completed_at"] else "",
                    _("yes") if row["holds"] else _("no"),
                    "\n".join(row["remaining"]),
                )
                for row in document
            ],
        )
        for row in document:
            for place in row["unseen"]:
                self.stdout.write(
                    _("%(tenant)s (check incomplete): %(place)s") % {"tenant": row["tenant_id"], "place": place}
                )

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options)
        problems = [f"{check.tenant_id}: {problem}" for check in self.checks for problem in check.problems]
        if problems:
            raise Refusal("\n".join(problems), code="erasures_do_not_hold")
