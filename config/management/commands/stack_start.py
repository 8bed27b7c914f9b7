"""`seo-gen stack start`: start or repair the embedded servers and the product's processes."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config import prepare, stack
from config.base.command import OperatorCommand, Refusal
from config.stack.lifecycle import WORKERS

WORKER_NAMES = [worker.name for worker in WORKERS]


class Command(OperatorCommand):
    help = "Start the embedded servers, and the worker, beat and web processes."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--only-servers", action="store_true", help="Do not start worker, beat and web.")
        parser.add_argument(
            "--port",
            action="append",
            default=[],
            metavar="SERVICE=PORT",
            help="Use a fixed port, such as web=8000; can be repeated.",
        )

    def perform(self, **options: Any) -> Any:
        home = stack.find_home()
        ports = self._ports(options["port"])
        started = stack.start(home, [], ports=ports, on_progress=prepare.announce)
        if not options["only_servers"]:
            prepare.control_database(home)
            started += stack.start(home, WORKER_NAMES, ports=ports, on_progress=prepare.announce)
        return {"home": str(home.path), "started": started, "web": web_address(home)}

    def present(self, document: Any) -> None:
        if document["started"]:
            self.stdout.write(_("Started: %(names)s") % {"names": ", ".join(document["started"])})
        else:
            self.stdout.write(_("Nothing needed to be started."))
        if document["web"]:
            self.stdout.write(_("Admin: %(address)s") % {"address": document["web"]})

    def _ports(self, pairs: list[str]) -> dict[str, int]:
        try:
            ports = {name: int(port) for name, _equals, port in (pair.partition("=") for pair in pairs)}
        except ValueError as error:
            raise Refusal(
                _("--port must be SERVICE=PORT, such as web=8000."), returncode=2, code="port_option_invalid"
            ) from error
        unknown = sorted(set(ports) - set(stack.NAMES_WITH_PORT))
        if unknown:
            message = _('No service named "%(service)s" has a port. These services have one: %(names)s.')
            raise Refusal(
                message % {"service": unknown[0], "names": ", ".join(stack.NAMES_WITH_PORT)},
                returncode=2,
                code="service_not_found",
            )
        return ports


def web_address(home: stack.Home) -> str | None:
    """Return the admin's URL; None if the web server is not running."""
    for service in stack.status(home):
        if service.name == "web" and service.state == "running":
            return f"http://127.0.0.1:{service.port}/admin/"
    return None
