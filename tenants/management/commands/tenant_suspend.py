from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand
from tenants.lifecycle.suspend import tenant_suspend
from tenants.presentation import tenant_document


class Command(OperatorCommand):
    help = "Suspend a tenant: no one can use it until it is resumed; its data stays."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant-id", required=True, help="The tenant's id, as `tenant list` shows it.")
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        return tenant_document(tenant_suspend(tenant_id=options["tenant_id"]))

    def present(self, document: Any) -> None:
        self.stdout.write(
            _("Tenant %(id)s is suspended: until it is resumed, its site is closed, and its runs wait.") % document
        )
