from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand
from prompts.documents import prompt_list
from prompts.management.commands._present import print_versions


class Command(OperatorCommand):
    help = "List a tenant's prompts: versions, authors, notes, and how each version was used."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant-id", required=True, help="The tenant's id, as `tenant list` shows it.")
        parser.add_argument("--step", help="Only the versions of this step.")
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        return prompt_list(tenant_id=options["tenant_id"], step=options["step"])

    def present(self, document: Any) -> None:
        if document:
            print_versions(document)
        else:
            self.stdout.write(_("No prompts were found."))
