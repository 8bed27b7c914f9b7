from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand
from config.site.sign_in.throttle import logins_unlock


class Command(OperatorCommand):
    help = "Unlock logins that were locked because too many failed."

    def add_arguments(self, parser: CommandParser) -> None:
        group = parser.add_mutually_exclusive_group(required=True)
        group.add_argument("--username", help="Unlock this name, from every address.")
        group.add_argument("--address", help="Unlock this address, for every name; for IPv6, its whole /64 network.")
        group.add_argument("--all", action="store_true", help="Unlock all names and addresses.")
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        return {"unlocked": logins_unlock(username=options["username"], address=options["address"])}

    def present(self, document: Any) -> None:
        self.stdout.write(_("Locks removed: %(unlocked)d.") % document)
