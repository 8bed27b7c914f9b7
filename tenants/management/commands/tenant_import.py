from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand
from tenants.presentation import show_progress
from tenants.transfer.import_ import tenant_import


class Command(OperatorCommand):
    help = "Import a tenant from a bundle that `tenant export` made, here or elsewhere."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--file", required=True, help="The bundle: a path or s3://bucket/key.")
        parser.add_argument("--id", dest="new_id", metavar="ID", help="A new id for the tenant.")
        parser.add_argument("--server", dest="server_name", help="The database server; the default one unless given.")
        parser.add_argument(
            "--age-identity-file", metavar="FILE", help="The age identity that opens an encrypted bundle."
        )
        parser.add_argument(
            "--from-erased",
            default="",
            metavar="REASON",
            help="Continue even if the tenant was erased here; the reason is recorded.",
        )
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        report = tenant_import(
            file=options["file"],
            new_id=options["new_id"],
            server_name=options["server_name"],
            age_identity_file=options["age_identity_file"],
            from_erased=options["from_erased"],
            on_progress=show_progress,
        )
        return asdict(report)

    def present(self, document: Any) -> None:
        self.stdout.write(_("Tenant %(tenant_id)s was imported from %(source)s and is active.") % document)
        if document["added"]:
            self.stdout.write(_("Added to the LLM configuration: %(names)s") % {"names": ", ".join(document["added"])})
        for path in document["missing_files"]:
            self.stdout.write(_("Missing or changed file: %(path)s") % {"path": path})
