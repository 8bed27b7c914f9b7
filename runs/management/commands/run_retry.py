from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandParser

from runs.management.commands._control import RunsCommand
from runs.models import Run
from runs.services.retry import run_retry
from runs.services.transition import RETRY, RETRY_FROM, Transition


class Command(RunsCommand):
    help = "Let failed runs continue with the step that failed, or run steps again with --from."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--from",
            dest="from_step",
            metavar="STEP",
            help="Run this step and all later ones again, even if the run is paused; replaced outputs are kept.",
        )
        super().add_arguments(parser)

    def change(self, tenant_id: str, run_id: str, options: Mapping[str, Any]) -> Run:
        return run_retry(tenant_id=tenant_id, run_id=run_id, from_step=options["from_step"])

    def transition(self, options: Mapping[str, Any]) -> Transition:
        return RETRY if options["from_step"] is None else RETRY_FROM
