from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand
from config.base.output import size
from tenants.files.locations import STANDARD
from tenants.presentation import backup_document, show_progress
from tenants.transfer.export import tenant_export, tenant_export_stream


class Command(OperatorCommand):
    help = "Export a tenant as one bundle, which another installation can import."

    asks_second_person = True

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant-id", required=True, help="The tenant's id, as `tenant list` shows it.")
        parser.add_argument(
            "--output", required=True, metavar="FILE", help="A new file, s3://bucket/key, or - for standard output."
        )
        parser.add_argument(
            "--encrypt-to",
            metavar="RECIPIENT",
            help="An age recipient (default: BACKUP_AGE_RECIPIENT); empty for no encryption.",
        )
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        if options["output"] == STANDARD:
            streamed = tenant_export_stream(
                tenant_id=options["tenant_id"],
                target=self.binary_stdout(),
                recipient=options["encrypt_to"],
                on_progress=show_progress,
            )
            return asdict(streamed)
        backup = tenant_export(
            tenant_id=options["tenant_id"],
            output=options["output"],
            recipient=options["encrypt_to"],
            on_progress=show_progress,
        )
        return backup_document(backup)

    def present(self, document: Any) -> None:
        if "file" not in document:
            values = {**document, "size": size(document["size_bytes"])}
            self.stderr.write(_("Tenant %(tenant_id)s was exported to standard output (%(size)s).") % values, str)
            return
        self.stdout.write(
            _("Tenant %(tenant_id)s was exported to %(file)s (%(size)s).")
            % {**document, "size": size(document["size_bytes"])}
        )
