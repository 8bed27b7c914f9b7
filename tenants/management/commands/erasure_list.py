from typing import Any

from django.utils.translation import gettext as _

from config.base.command import OperatorCommand
from config.base.output import print_table
from config.base.times import to_minute
from tenants.erasure.presentation import erasure_document
from tenants.erasure_ledger import erasures


class Command(OperatorCommand):
    help = "List erased tenants and unfinished deletions."

    def perform(self, **options: Any) -> Any:
        return [erasure_document(row) for row in erasures()]

    def present(self, document: Any) -> None:
        if not document:
            self.stdout.write(_("No tenant has been erased."))
            return
        rows = [
            (
                row["tenant_id"],
                to_minute(row["started_at"]),
                to_minute(row["completed_at"]) if row["completed_at"] else row["phase"],
                row["by"],
                row["sha256"],
            )
            for row in document
        ]
        print_table(
            [_("tenant"), _("requested"), _("completed"), _("requested by"), _("sha256 of the certificate")], rows
        )
