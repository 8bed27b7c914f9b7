from typing import Any

from django.core.management.base import CommandParser

from config.base.command import OperatorCommand
from tenants.lifecycle.shell import tenant_dbshell


class Command(OperatorCommand):
    help = "Open psql in a tenant's database, as the tenant's own role."
    supports_json = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant-id", required=True, help="The tenant's id, as `tenant list` shows it.")
        parser.add_argument(
            "--owner", action="store_true", help="Connect as the owner of the tables, who can change everything."
        )
        parser.add_argument(
            "arguments", nargs="*", metavar="PSQL_ARGUMENTS", help="Passed to psql; put -- before them."
        )

    def perform(self, **options: Any) -> Any:
        status = tenant_dbshell(tenant_id=options["tenant_id"], owner=options["owner"], arguments=options["arguments"])
        if status:
            raise SystemExit(status)
