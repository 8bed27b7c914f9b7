"""`seo-gen stack status`: the processes of this SEO_GEN_HOME, with ports and start times."""

import datetime
from dataclasses import asdict
from typing import Any

from django.utils.translation import gettext as _

from config import stack
from config.base.command import OperatorCommand
from config.base.times import to_second


class Command(OperatorCommand):
    help = "Show the embedded servers and the worker, beat and web processes."

    def perform(self, **options: Any) -> Any:
        home = stack.find_home()
        services = [asdict(service) for service in stack.status(home)]
        for service in services:
            service["started"] = _moment(service["started"])
        return {"home": str(home.path), "services": services}

    def present(self, document: Any) -> None:
        self.stdout.write(_("Home: %(home)s") % {"home": document["home"]})
        for service in document["services"]:
            self.stdout.write(_line(service))


def _moment(seconds: float | None) -> datetime.datetime | None:
    return datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC) if seconds else None


def _line(service: dict[str, Any]) -> str:
    where = f"127.0.0.1:{service['port']}" if service["port"] else ""
    line = f"  {service['name']:<9} {service['state']:<9} {where:<16}"
    if service["state"] != "running":
        return line.rstrip()
    since = to_second(service["started"])
    return line + _("process %(pid)s since %(since)s") % {"pid": service["pid"], "since": since}
