from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand
from prompts.diff import unified_diff
from prompts.documents import READABLE
from prompts.management.commands._given import add_tenant_and_step, version_number
from prompts.selectors import prompt_get
from tenants.routing.context import tenant_context


class Command(OperatorCommand):
    help = "Compare two versions of a prompt: template and variables."

    def add_arguments(self, parser: CommandParser) -> None:
        add_tenant_and_step(parser)
        parser.add_argument(
            "--from", type=version_number, required=True, metavar="N", dest="old", help="The version to compare with."
        )
        parser.add_argument(
            "--to", type=version_number, metavar="N", dest="new", help="The other version; the active one unless given."
        )
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        with tenant_context(options["tenant_id"], statuses=READABLE) as alias:
            old = prompt_get(alias=alias, step=options["step"], version=options["old"])
            new = prompt_get(alias=alias, step=options["step"], version=options["new"])
        difference = unified_diff(old, new, old_name=str(old), new_name=str(new))
        return {
            "tenant_id": options["tenant_id"],
            "step": options["step"],
            "from": old.version,
            "to": new.version,
            "diff": difference,
        }

    def present(self, document: Any) -> None:
        self.stdout.write(document["diff"] or _("The two versions are the same."))
