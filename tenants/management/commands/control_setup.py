from typing import Any

from django.utils.translation import gettext as _

from config.base.command import OperatorCommand
from tenants.lifecycle.setup import control_setup


class Command(OperatorCommand):
    help = "Prepare or upgrade the control database and the servers: rights, tables, models. Safe to repeat."

    def perform(self, **options: Any) -> Any:
        return {"problems": control_setup(verbosity=max(0, options["verbosity"] - 1))}

    def present(self, document: Any) -> None:
        for problem in document["problems"]:
            self.stderr.write(problem)
        self.stdout.write(_("The control database is ready."))
