from typing import Any

from django.core.management.base import CommandParser

from config.base.command import OperatorCommand
from tenants.erasure.presentation import erasure_document, print_certificate
from tenants.erasure_ledger import erasure_get


class Command(OperatorCommand):
    help = "Show the certificate of an erasure: what was erased, what remains, why and until when."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant-id", required=True, help="The id that the tenant had.")
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        return erasure_document(erasure_get(options["tenant_id"]))

    def present(self, document: Any) -> None:
        print_certificate(document, self.stdout)
