from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand
from tenants.lifecycle.create import tenant_create
from tenants.naming import id_from_name
from tenants.presentation import show_progress, tenant_document


class Command(OperatorCommand):
    help = "Create a tenant: its own database, role and credentials."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--name", required=True, help="The customer's name, as shown to people.")
        parser.add_argument(
            "--id",
            dest="tenant_id",
            help="The tenant's id (a-z, 0-9, -); derived from the name, or numbered, unless given.",
        )
        parser.add_argument("--server", dest="server_name", help="The database server; the default one unless given.")
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        tenant = tenant_create(
            name=options["name"],
            tenant_id=options["tenant_id"],
            server_name=options["server_name"],
            on_progress=show_progress,
        )
        self.numbered = options["tenant_id"] is None and id_from_name(tenant.name) is None
        return tenant_document(tenant)

    def present(self, document: Any) -> None:
        if self.numbered:
            self.stdout.write(
                _(
                    "No id can be derived from the name, so the tenant got the id %(id)s. To choose the id of the next"
                    " tenant yourself, pass --id."
                )
                % document
            )
        self.stdout.write(_("Tenant %(id)s is active on server %(server)s.") % document)
