from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand, Refusal
from prompts.documents import PromptDocument, prompt_document
from prompts.errors import UnknownPrompt
from prompts.management.commands._given import STANDARD_INPUT, add_tenant_and_step, read_template, read_variables
from prompts.selectors import prompt_get
from prompts.services import prompt_create, prompt_create_active
from tenants.routing.context import tenant_context


class Command(OperatorCommand):
    help = "Add a version of a step's prompt from a file; with --activate, new runs use it."

    def add_arguments(self, parser: CommandParser) -> None:
        add_tenant_and_step(parser)
        parser.add_argument("--file", required=True, help="The template (Jinja2, UTF-8); - is standard input.")
        parser.add_argument(
            "--variables",
            metavar="FILE",
            help="The declarations of its variables, as JSON; those of the active version unless given.",
        )
        parser.add_argument("--note", required=True, help="What this version changes, and why.")
        parser.add_argument("--activate", action="store_true", help="Activate it in the same transaction.")
        super().add_arguments(parser)

    def check_options(self, options: Mapping[str, Any]) -> None:
        super().check_options(options)
        if options.get("file") == options.get("variables") == STANDARD_INPUT:
            raise Refusal(_("Only one of --file and --variables can be standard input."), code="options_conflict")

    def perform(self, **options: Any) -> PromptDocument:
        content, variables = read_template(options["file"]), read_variables(options["variables"])
        save = prompt_create_active if options["activate"] else prompt_create
        with tenant_context(options["tenant_id"]) as alias:
            if options["variables"] is None:
                variables = _active_variables(alias, options["step"])
            prompt = save(alias=alias, step=options["step"], content=content, variables=variables, note=options["note"])
        return prompt_document(tenant_id=options["tenant_id"], step=prompt.step, version=prompt.version)

    def present(self, document: PromptDocument) -> None:
        values = {**document, "prompt": f"{document['step']} v{document['version']}"}
        if document["is_active"]:
            self.stdout.write(_("%(prompt)s is now active.") % values)
        else:
            self.stdout.write(
                _(
                    "%(prompt)s was created. To use it: `seo-gen prompt activate --tenant-id %(tenant_id)s"
                    " --step %(step)s --version %(version)d`."
                )
                % values
            )


def _active_variables(alias: str, step: str) -> Any:
    """Return the declarations of the active version; None if the step has no active version."""
    try:
        return prompt_get(alias=alias, step=step).variables
    except UnknownPrompt:
        return None
