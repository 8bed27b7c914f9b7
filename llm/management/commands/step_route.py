from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from config.base.command import OperatorCommand, Refusal
from config.base.output import print_table
from llm.errors import MissingKey
from llm.models import ModelClass
from llm.routing import retiring_steps, step_route
from llm.types import StepDefaultChange


class Command(OperatorCommand):
    help = "Route a step of the pipeline, or all steps, to another LLM provider; existing runs are not affected."

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--step", help="The step, such as `keyword_analysis`.")
        which.add_argument("--all", action="store_true", help="Every step of the pipeline.")
        parser.add_argument("--provider", required=True, help="The provider's id, such as claude, openai or local.")
        parser.add_argument("--model-class", choices=ModelClass.values, help="Default: each step keeps its class.")
        parser.add_argument("--force", action="store_true", help="Accept that only the workers have the key.")
        which = parser.add_mutually_exclusive_group()
        which.add_argument(
            "--fallback",
            action="append",
            metavar="PROVIDER[:CLASS]",
            help="Used if the route cannot be called; repeat it for more, in order. Default: each step keeps its own.",
        )
        which.add_argument("--no-fallback", action="store_true", help="Remove the fallbacks.")
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        try:
            changes = step_route(
                step=options["step"],
                provider_id=options["provider"],
                model_class=options["model_class"],
                force=options["force"],
                fallbacks=[] if options["no_fallback"] else options["fallback"],
            )
        except MissingKey as error:
            hint = _("Set it here and for the workers, or pass --force if only the workers have it.")
            raise Refusal(error.message, hint=hint, code=error.code) from error
        routed = {change.step for change in changes}
        return {
            "steps": [_document(change) for change in changes],
            "warning": _warning(changes),
            "retiring": [{"step": step, "message": text} for step, text in retiring_steps() if step in routed],
        }

    def present(self, document: Any) -> None:
        rows: list[tuple[str, ...]] = [
            (
                step["step"],
                f"{step['previous_provider']} ({step['previous_model_class']})",
                f"{step['provider']} ({step['model_class']})",
                step["model"],
            )
            for step in document["steps"]
        ]
        columns = [_("step"), _("old route"), _("new route"), _("model")]
        if any(step["fallbacks"] for step in document["steps"]):
            columns.append(_("fallbacks"))
            fallbacks = (", ".join(map(_fallback_text, step["fallbacks"])) for step in document["steps"])
            rows = [(*row, text) for row, text in zip(rows, fallbacks, strict=True)]
        print_table(columns, rows)
        if document["warning"]:
            self.stderr.write(self.style.WARNING(document["warning"]))
        for step in document["retiring"]:
            self.stderr.write(self.style.WARNING(_("Step %(step)s: %(message)s") % step))


def _warning(changes: list[StepDefaultChange]) -> str | None:
    providers = list(dict.fromkeys(provider for change in changes for provider in change.keys_at_workers))
    if not providers:
        return None
    return ngettext(
        "The environment variable of the provider %(providers)s is not set here; the workers must have it.",
        "The environment variables of the providers %(providers)s are not set here; the workers must have them.",
        len(providers),
    ) % {"providers": ", ".join(providers)}


def _fallback_text(document: Mapping[str, str]) -> str:
    return f"{document['provider']} ({document['model_class']})"


def _document(change: StepDefaultChange) -> dict[str, Any]:
    return {
        "step": change.step,
        "provider": change.provider_id,
        "model_class": change.model_class,
        "model": change.model_name,
        "previous_provider": change.old_provider_id,
        "previous_model_class": change.old_model_class,
        "key_at_workers": change.key_at_workers,
        "fallbacks": [fallback.as_document() for fallback in change.fallbacks],
        "changed": change.changed,
    }
