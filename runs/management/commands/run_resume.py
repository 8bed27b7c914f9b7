from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandParser

from config.base.command import usd_amount
from runs.management.commands._control import RunsCommand
from runs.models import Run
from runs.services.resume import run_resume
from runs.services.transition import RESUME, Transition


class Command(RunsCommand):
    help = "Let paused runs continue, except those that are waiting for a review."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--budget-usd",
            type=usd_amount,
            metavar="USD",
            help="The new budget of each of these runs, instead of the one in its configuration.",
        )

    def change(self, tenant_id: str, run_id: str, options: Mapping[str, Any]) -> Run:
        return run_resume(tenant_id=tenant_id, run_id=run_id, budget_usd=options["budget_usd"])

    def transition(self, options: Mapping[str, Any]) -> Transition:
        return RESUME
