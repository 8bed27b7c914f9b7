from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand
from config.management.commands._roles import add_role_arguments, document_of, place_in_words, role_of
from tenants.access.assign import role_revoke


class Command(OperatorCommand):
    help = "Take a role back, with effect from the person's next request."

    def add_arguments(self, parser: CommandParser) -> None:
        add_role_arguments(parser)
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        return document_of(options, revoked=role_revoke(**role_of(options)))

    def present(self, document: Any) -> None:
        message = (
            _("%(username)s no longer has the role %(role)s for %(for)s.")
            if document["revoked"]
            else _("%(username)s did not have the role %(role)s for %(for)s; other roles may give the same access.")
        )
        self.stdout.write(message % place_in_words(document))
