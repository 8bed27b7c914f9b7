from typing import Any

from django.utils.translation import gettext as _

from config.base.command import OperatorCommand
from config.base.output import print_table
from config.base.times import to_minute
from tenants.access.assign import staff_documents


class Command(OperatorCommand):
    help = "List the members of staff and their roles."

    def perform(self, **options: Any) -> Any:
        return staff_documents()

    def present(self, document: Any) -> None:
        if not document:
            self.stdout.write(_("There are no staff accounts; `manage.py createsuperuser` creates one."))
            return
        print_table(
            [_("name"), _("status"), _("last login"), _("roles")],
            [
                (
                    row["username"],
                    _("active") if row["active"] else _("inactive"),
                    to_minute(row["last_login"]) if row["last_login"] else "",
                    ", ".join([_("superuser")] * row["superuser"] + row["roles"]),
                )
                for row in document
            ],
        )
