from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import Refusal
from runs.management.commands._control import RunsCommand
from runs.models import Run
from runs.services.approve import run_approve, run_send_back
from runs.services.transition import APPROVE, SEND_BACK, Transition


class Command(RunsCommand):
    help = "Approve runs that are waiting for a review, or send them back with a comment."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--send-back",
            metavar="COMMENT",
            help="Run the step before the review again; its prompt gets the comment as review_comment.",
        )
        parser.add_argument(
            "--from", dest="from_step", metavar="STEP", help="With --send-back: begin with this earlier step."
        )
        super().add_arguments(parser)

    def check_options(self, options: Mapping[str, Any]) -> None:
        super().check_options(options)
        if options.get("from_step") is not None and options.get("send_back") is None:
            raise Refusal(_("--from needs --send-back."), code="options_conflict")

    def change(self, tenant_id: str, run_id: str, options: Mapping[str, Any]) -> Run:
        if options["send_back"] is None:
            return run_approve(tenant_id=tenant_id, run_id=run_id)
        return run_send_back(
            tenant_id=tenant_id, run_id=run_id, comment=options["send_back"], from_step=options["from_step"]
        )

    def transition(self, options: Mapping[str, Any]) -> Transition:
        return APPROVE if options["send_back"] is None else SEND_BACK
