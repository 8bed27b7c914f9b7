from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import Refusal, usd_amount
from llm.models import ModelClass
from prompts.management.commands._given import PromptCommand, add_tenant_and_step, add_version, money, parse_inputs
from prompts.rendering import declared_variables
from prompts.selectors import prompt_get
from prompts.test import TestedPrompt, Trial, prompt_preview, prompt_test
from tenants.routing.context import tenant_context


class Command(PromptCommand):
    help = "Try a version of a prompt: render it and send it to its model once; the output is not stored."

    def add_arguments(self, parser: CommandParser) -> None:
        add_tenant_and_step(parser)
        add_version(parser, "The version to try; the active one unless given.")
        parser.add_argument("--run-id", metavar="ID", help="Take the values from this run: inputs and earlier outputs.")
        parser.add_argument(
            "--input",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="The value of a variable; it takes precedence over the run's. Repeat it for several.",
        )
        parser.add_argument("--preview", action="store_true", help="Only render; call no model.")
        parser.add_argument("--provider", help="Call this provider instead of the step's.")
        parser.add_argument("--model-class", choices=ModelClass.values, help="Call a model of this class instead.")
        parser.add_argument(
            "--max-cost",
            type=usd_amount,
            metavar="USD",
            help="Make no call that may cost more, or whose cost is unknown.",
        )
        super().add_arguments(parser)

    def check_options(self, options: Mapping[str, Any]) -> None:
        super().check_options(options)
        if options.get("preview") and options.get("max_cost") is not None:
            raise Refusal(_("--max-cost has no meaning with --preview, which calls no model."), code="options_conflict")

    def perform(self, **options: Any) -> Any:
        self.max_cost = options["max_cost"]
        given: dict[str, Any] = {
            "tenant_id": options["tenant_id"],
            "step": options["step"],
            "version": options["version_number"],
            "run_id": options["run_id"],
            "provider_id": options["provider"],
            "model_class": options["model_class"],
        }
        given["inputs"] = _inputs(options)
        if options["preview"]:
            return {**_document(prompt_preview(**given)), "output": None, "token_usage": None, "cost": None}
        return _tested(prompt_test(**given, on_trial=self._announce))

    def present(self, document: Any) -> None:
        if document["output"] is None:
            self.stdout.write(document["text"])
            self.stderr.write(_limit(document))
            return
        self.stdout.write(document["output"])
        self.stderr.write(
            _("Tokens used: %(input)d in, %(output)d out; cost: %(cost)s.")
            % {**document["token_usage"], "cost": money(document["cost"])}
        )

    def _announce(self, trial: Trial) -> None:
        """Print what the call can cost before it begins.

        With --max-cost, refuse the call if it may cost more or its cost is unknown.
        """
        document = _document(trial)
        if self.max_cost is not None and (trial.cost_limit is None or trial.cost_limit > self.max_cost):
            raise Refusal(
                _("The call was not made: it may cost more than --max-cost (highest possible cost: %(limit)s).")
                % {"limit": money(trial.cost_limit)},
                code="prompt_test_too_expensive",
            )
        self.stderr.write(_limit(document))


def _inputs(options: Mapping[str, Any]) -> dict[str, object]:
    if not options["input"]:
        return {}
    with tenant_context(options["tenant_id"]) as alias:
        prompt = prompt_get(alias=alias, step=options["step"], version=options["version_number"])
    return parse_inputs(options["input"], declared_variables(prompt.variables))


def _document(trial: Trial) -> dict[str, Any]:
    return {
        "step": trial.prompt.step,
        "version": trial.prompt.version,
        "run_id": trial.run_id,
        "text": trial.text,
        "provider": trial.model.provider_id,
        "model": trial.model.model_name,
        "max_input_tokens": trial.max_input_tokens,
        "max_output_tokens": trial.model.max_output_tokens,
        "cost_limit": None if trial.cost_limit is None else float(trial.cost_limit),
    }


def _tested(tested: TestedPrompt) -> dict[str, Any]:
    return {
        **_document(tested.trial),
        "output": tested.reply.text,
        "token_usage": tested.reply.usage.as_document(),
        "cost": None if tested.cost is None else float(tested.cost),
    }


def _limit(document: Mapping[str, Any]) -> str:
    return _(
        "Limits for a call to %(provider)s/%(model)s: %(max_input_tokens)d tokens in, %(max_output_tokens)d out; cost:"
        " %(limit)s."
    ) % {**document, "limit": money(document["cost_limit"])}
