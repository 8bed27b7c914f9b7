from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand
from config.management.commands._roles import add_role_arguments, document_of, place_in_words, role_of
from tenants.access.assign import role_grant


class Command(OperatorCommand):
    help = "Give a member of staff a role: for all tenants, for a group of them, or for one."

    def add_arguments(self, parser: CommandParser) -> None:
        add_role_arguments(parser)
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        return document_of(options, granted=role_grant(**role_of(options)))

    def present(self, document: Any) -> None:
        message = (
            _("%(username)s now has the role %(role)s for %(for)s.")
            if document["granted"]
            else _("%(username)s already has the role %(role)s for %(for)s.")
        )
        self.stdout.write(message % place_in_words(document))
