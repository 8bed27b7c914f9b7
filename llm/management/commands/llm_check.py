from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand, Refusal
from config.base.errors import joined
from config.base.output import print_table
from llm.check import llm_check
from llm.types import ProviderCheck


class Command(OperatorCommand):
    help = "Make one tiny call to each active LLM provider, or to one, and report the results; it costs a few tokens."

    checks: list[ProviderCheck]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--provider", help="Only this provider, active or not.")
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        self.checks = llm_check(provider_id=options["provider"])
        return [{**asdict(check), "works": check.works} for check in self.checks]

    def present(self, document: Any) -> None:
        columns = [_("provider"), _("model"), _("result"), _("input tokens"), _("output tokens"), _("seconds")]
        print_table(columns, [_row(check) for check in self.checks])

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options)
        failed = [f"{check.provider_id}: {joined(check.message, check.hint)}" for check in self.checks if check.code]
        if failed:
            raise Refusal("\n".join(failed), code="llm_check_failed")


def _row(check: ProviderCheck) -> list[object]:
    result = check.code or _("works")
    numbers = [check.input_tokens, check.output_tokens, check.seconds]
    return [check.provider_id, check.model_name or "-", result, *("-" if one is None else one for one in numbers)]
