from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand
from config.base.output import print_table, size
from config.base.times import to_minute
from tenants.presentation import backup_document
from tenants.selectors import backups


class Command(OperatorCommand):
    help = "List the catalogue of backups and exports, using only the control database."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant-id", help="Only this tenant's backups.")
        parser.add_argument("--all", action="store_true", help="Include failed and removed backups.")
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        found = backups(tenant_id=options["tenant_id"], every=options["all"])
        return [backup_document(backup) for backup in found]

    def present(self, document: Any) -> None:
        if not document:
            self.stdout.write(_("No backups or exports were found. `seo-gen tenant backup` makes backups."))
            return
        rows = [
            (
                row["tenant_id"],
                to_minute(row["started_at"]),
                row["status"],
                size(row["size_bytes"]),
                to_minute(row["verified_at"]) if row["verified_at"] else "",
                row["file"],
                row["problem"],
            )
            for row in document
        ]
        print_table([_("tenant"), _("started"), _("status"), _("size"), _("verified"), _("file"), _("problem")], rows)
