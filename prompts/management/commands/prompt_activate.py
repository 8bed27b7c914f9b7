from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from prompts.documents import PromptDocument, prompt_document
from prompts.management.commands._given import PromptCommand, add_tenant_and_step, add_version
from prompts.selectors import prompt_get
from prompts.services import prompt_activate, prompt_activate_previous
from tenants.routing.context import tenant_context


class Command(PromptCommand):
    help = "Activate a version of a prompt, or return to the one that was active before: new runs use it."

    def add_arguments(self, parser: CommandParser) -> None:
        add_tenant_and_step(parser)
        which = parser.add_mutually_exclusive_group(required=True)
        add_version(which, "The version to activate.")
        which.add_argument("--previous", action="store_true", help="The version that was active before.")
        super().add_arguments(parser)

    def perform(self, **options: Any) -> PromptDocument:
        tenant_id, step = options["tenant_id"], options["step"]
        with tenant_context(tenant_id) as alias:
            if options["previous"]:
                prompt = prompt_activate_previous(alias=alias, step=step)
            else:
                chosen = prompt_get(alias=alias, step=step, version=options["version_number"])
                prompt = prompt_activate(alias=alias, prompt_id=chosen.pk)
        return prompt_document(tenant_id=tenant_id, step=step, version=prompt.version)

    def present(self, document: PromptDocument) -> None:
        self.stdout.write(_("%(prompt)s is now active.") % {"prompt": f"{document['step']} v{document['version']}"})
