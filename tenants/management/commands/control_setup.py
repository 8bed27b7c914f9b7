from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from config.base.command import OperatorCommand
from tenants.lifecycle.setup import control_setup


class Command(OperatorCommand):
    help = "Prepare or upgrade the control database and the servers: rights, tables, models. Safe to repeat."

    def perform(self, **options: Any) -> Any:
        return {"problems": control_setup(verbosity=max(0, options["verbosity"] - 1))}

    def present(self, document: Any) -> None:
        problems = document["problems"]
        for problem in problems:
            self.stderr.write(problem)
        if not problems:
            self.stdout.write(_("The control database is ready."))
            return
        # They do not fail the command: tenants can be used without what they name, or on other servers.
        text = ngettext(
            "The control database is ready, but %(count)d problem was reported.",
            "The control database is ready, but %(count)d problems were reported.",
            len(problems),
        )
        self.stdout.write(text % {"count": len(problems)})
