from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils.translation import gettext as _

from config.command import OperatorCommand
from tenants.presentation import print_table
from tenants.status import tenant_statuses


class Command(OperatorCommand):
    help = "Connect to tenants' databases and say how they are; exit 1 if one is not well."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant-id", help="Only this tenant; all unless given.")
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        self.statuses = tenant_statuses(tenant_id=options["tenant_id"])
        return [asdict(status) for status in self.statuses]

    def present(self, document: Any) -> None:
        columns = [_("id"), _("status"), _("server"), _("database"), _("size (MiB)"), _("unfinished"), _("problem")]
        rows = [
            (
                row["id"],
                row["status"],
                row["server"] or "",
                _("reachable") if row["reachable"] else _("not reached"),
                "" if row["size_bytes"] is None else f"{row['size_bytes'] / 2**20:.1f}",
                row["unfinished_operation"] or "",
                row["problem"] or "",
            )
            for row in document
        ]
        print_table(columns, rows)

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options)
        ill = [status.id for status in self.statuses if status.problem]
        if ill:
            raise CommandError(_("Not well: %(ids)s.") % {"ids": ", ".join(ill)})
