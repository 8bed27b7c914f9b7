from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand
from config.site.sign_in.emergency import MINUTES, password_permit


class Command(OperatorCommand):
    help = "Let a superuser log in with a password for a while although PASSWORD_LOGIN is off."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--username", required=True, help="The superuser's login name.")
        parser.add_argument(
            "--minutes", type=int, default=MINUTES, help=f"How long, at most a day (default: {MINUTES})."
        )
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        permit = password_permit(username=options["username"], minutes=options["minutes"])
        return {"username": permit.user.get_username(), "expires_at": permit.expires_at}

    def present(self, document: Any) -> None:
        self.stdout.write(
            _("%(username)s can log in with a password until %(until)s, even if PASSWORD_LOGIN is off.")
            % {"username": document["username"], "until": document["expires_at"].isoformat(timespec="seconds")}
        )
