from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.command import OperatorCommand
from tenants.presentation import backup_document, show_progress, size
from tenants.services.export import tenant_export


class Command(OperatorCommand):
    help = "Write all of a tenant into one bundle, from which another installation can bring it up."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant-id", required=True, help="The tenant's id, as `tenant list` shows it.")
        parser.add_argument("--output", required=True, metavar="FILE", help="A new file, or s3://bucket/key.")
        parser.add_argument(
            "--encrypt-to",
            metavar="RECIPIENT",
            help="An age recipient; BACKUP_AGE_RECIPIENT unless given, none if empty.",
        )
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        backup = tenant_export(
            tenant_id=options["tenant_id"],
            output=options["output"],
            recipient=options["encrypt_to"],
            on_progress=show_progress,
        )
        return backup_document(backup)

    def present(self, document: Any) -> None:
        self.stdout.write(
            _("Tenant %(tenant_id)s is exported to %(file)s (%(size)s).")
            % {**document, "size": size(document["size_bytes"])}
        )
