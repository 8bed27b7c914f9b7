from typing import Any

from django.utils.translation import gettext as _

from config.base.command import OperatorCommand
from config.base.output import print_table
from config.base.times import to_minute
from tenants.presentation import tenant_document
from tenants.selectors import tenants_existing


class Command(OperatorCommand):
    help = "List the tenants; reads only the control database."

    def perform(self, **options: Any) -> Any:
        return [tenant_document(tenant) for tenant in tenants_existing()]

    def present(self, document: Any) -> None:
        if not document:
            self.stdout.write(_("There are no tenants. `seo-gen tenant create --name NAME` creates one."))
            return
        rows = [
            (
                row["id"],
                row["name"],
                row["status"],
                row["server"] or "",
                to_minute(row["created_at"]),
            )
            for row in document
        ]
        print_table([_("id"), _("name"), _("status"), _("server"), _("created")], rows)
