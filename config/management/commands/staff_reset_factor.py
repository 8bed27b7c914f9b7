from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand
from config.site.sign_in.emergency import account_named
from config.site.sign_in.second_factor import factor_reset


class Command(OperatorCommand):
    help = "Remove a person's second factor, for example after they lost their phone."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--username", required=True, help="The person's login name.")
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        user = account_named(options["username"])
        return {"username": user.get_username(), "reset": factor_reset(user=user)}

    def present(self, document: Any) -> None:
        message = (
            _("The second factor of %(username)s was removed, and all their sessions were ended.")
            if document["reset"]
            else _("%(username)s has no second factor.")
        )
        self.stdout.write(message % document)
