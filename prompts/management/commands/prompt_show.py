from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from prompts.diff import declarations_text
from prompts.documents import PromptDocument, prompt_document
from prompts.management.commands._given import PromptCommand, add_tenant_and_step, add_version
from prompts.management.commands._present import print_versions


class Command(PromptCommand):
    help = "Show a version of a prompt: its template, its variables, and how it was used."

    def add_arguments(self, parser: CommandParser) -> None:
        add_tenant_and_step(parser)
        add_version(parser, "The version; the active one unless given.")
        super().add_arguments(parser)

    def perform(self, **options: Any) -> PromptDocument:
        return prompt_document(tenant_id=options["tenant_id"], step=options["step"], version=options["version_number"])

    def present(self, document: PromptDocument) -> None:
        print_versions([document])
        usage = document["usage"]
        if usage["mean_input_tokens"] is not None:
            self.stdout.write(
                _("Mean tokens: %(mean_input_tokens)s in, %(mean_output_tokens)s out.")
                % {**usage, "mean_output_tokens": usage["mean_output_tokens"] or 0}
            )
        variables = declarations_text(document["variables"])
        if variables:
            self.stdout.write(f"\n{_('Variables')}:\n{variables}")
        self.stdout.write(f"{_('Template')}:\n{document['content']}")
