from typing import Any

from django.core.management import load_command_class
from django.core.management.base import CommandParser

from config.base.command import OperatorCommand
from config.base.commands import our_commands, spoken
from config.command_line import completion


class Command(OperatorCommand):
    help = "Print a script that makes your shell complete commands and options."
    supports_json = False

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("shell", choices=sorted(completion.SHELLS), help="The shell that the script is for.")

    def perform(self, **options: Any) -> str:
        return completion.SHELLS[options["shell"]]([_described(name, app) for name, app in our_commands().items()])

    def present(self, document: str) -> None:
        self.stdout.write(document, ending="")


def _described(name: str, app: str) -> completion.Command:
    command = load_command_class(app, name)
    words = tuple(spoken(name).split(" "))
    summary = command.help.strip().partition("\n")[0]
    return completion.Command(words, summary, completion.options_of(command.create_parser("seo-gen", spoken(name))))
