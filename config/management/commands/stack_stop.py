"""`seo-gen stack stop`: stop every process of this SEO_GEN_HOME."""

from argparse import ArgumentTypeError
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config import prepare, stack
from config.base.command import OperatorCommand

LONGEST_S = 86_400


def _seconds(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > LONGEST_S:
        raise ArgumentTypeError(_("must be a whole number of seconds from 0 to 86400"))
    return int(text)


class Command(OperatorCommand):
    help = "Stop the embedded servers and the worker, beat and web processes."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--wait",
            type=_seconds,
            metavar="SECONDS",
            help="How long the worker may wait for its calls (default: 30). Then it returns their steps.",
        )
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        home = stack.find_home()
        stopped = stack.stop(home, on_progress=prepare.announce, wait_s=options["wait"])
        return {"home": str(home.path), "stopped": stopped}

    def present(self, document: Any) -> None:
        if document["stopped"]:
            self.stdout.write(_("Stopped: %(names)s") % {"names": ", ".join(document["stopped"])})
        else:
            self.stdout.write(_("Nothing needed to be stopped."))
