from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand, Refusal
from tenants.lifecycle.shell import tenant_command


class Command(OperatorCommand):
    help = "Run a Django command for one tenant, or for each active one in turn."
    supports_json = False

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument(
            "--all", action="store_true", help="Every active tenant; continues after a failure, then exits 1."
        )
        which.add_argument("--tenant-id", help="Only this tenant; it may be suspended.")
        parser.add_argument("command", help="The Django command; put -- before it.")
        parser.add_argument("arguments", nargs="*")

    def perform(self, **options: Any) -> Any:
        failures = tenant_command(
            tenant_id=options["tenant_id"],
            command=options["command"],
            arguments=options["arguments"],
            on_tenant=lambda tenant_id: self.stderr.write(f"== {tenant_id}"),
        )
        for tenant_id, reason in failures.items():
            self.stderr.write(f"{tenant_id}: {reason}")
        if failures:
            raise Refusal(
                _("%(command)s failed for %(ids)s.") % {"command": options["command"], "ids": ", ".join(failures)},
                code="tenant_command_failed",
            )
