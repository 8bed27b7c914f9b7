from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand
from config.base.output import print_table
from llm.models import ModelClass
from llm.routing import missing_key, step_route
from llm.types import StepDefaultChange


class Command(OperatorCommand):
    help = "Route a step of the pipeline, or all steps, to another LLM provider; existing runs are not affected."

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--step", help="The step, such as `keyword_analysis`.")
        which.add_argument("--all", action="store_true", help="Every step of the pipeline.")
        parser.add_argument("--provider", required=True, help="claude, gemini, openai or local.")
        parser.add_argument("--model-class", choices=ModelClass.values, help="Default: each step keeps its class.")
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        provider = options["provider"]
        changes = step_route(step=options["step"], provider_id=provider, model_class=options["model_class"])
        return {"steps": [_document(change) for change in changes], "warning": missing_key(provider)}

    def present(self, document: Any) -> None:
        rows = [
            (
                step["step"],
                f"{step['previous_provider']} ({step['previous_model_class']})",
                f"{step['provider']} ({step['model_class']})",
                step["model"],
            )
            for step in document["steps"]
        ]
        print_table([_("step"), _("old"), _("new"), _("model")], rows)
        if document["warning"]:
            self.stderr.write(self.style.WARNING(document["warning"]))


def _document(change: StepDefaultChange) -> dict[str, Any]:
    return {
        "step": change.step,
        "provider": change.provider_id,
        "model_class": change.model_class,
        "model": change.model_name,
        "previous_provider": change.old_provider_id,
        "previous_model_class": change.old_model_class,
        "changed": change.changed,
    }
