from typing import Any

from django.utils.translation import gettext as _

from config.command import OperatorCommand
from tenants.services import control_setup


class Command(OperatorCommand):
    help = (
        "Prepare or upgrade the control database: tables, the default server, the catalogue of models. Safe to repeat."
    )
    supports_json = False

    def perform(self, **options: Any) -> Any:
        control_setup(verbosity=max(0, options["verbosity"] - 1))
        return {}

    def present(self, document: Any) -> None:
        self.stdout.write(_("The control database is ready."))
