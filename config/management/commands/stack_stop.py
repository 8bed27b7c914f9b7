"""`seo-gen stack stop`: stop every process of this SEO_GEN_HOME."""

from typing import Any

from django.utils.translation import gettext as _

from config import prepare, stack
from config.base.command import OperatorCommand


class Command(OperatorCommand):
    help = "Stop the embedded servers and the worker, beat and web processes."

    def perform(self, **options: Any) -> Any:
        home = stack.find_home()
        return {"home": str(home.path), "stopped": stack.stop(home, on_progress=prepare.announce)}

    def present(self, document: Any) -> None:
        names = ", ".join(document["stopped"]) or _("nothing; nothing was running")
        self.stdout.write(_("Stopped: %(names)s") % {"names": names})
