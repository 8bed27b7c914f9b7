from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand, Refusal
from config.base.output import print_table
from tenants.lifecycle.status import tenant_statuses
from tenants.schema.releases import SchemaState, short


class Command(OperatorCommand):
    help = (
        "Show the state of tenants; with --check, connect to their databases. Exit with status 1 if one is unhealthy."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant-id", help="Only this tenant; implies --check.")
        parser.add_argument(
            "--check", action="store_true", help="Connect to every tenant's database, and compare schemas."
        )
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        tenant_id = options["tenant_id"]
        self.statuses = tenant_statuses(tenant_id=tenant_id, check=options["check"] or bool(tenant_id))
        return [asdict(status) for status in self.statuses]

    def present(self, document: Any) -> None:
        columns = [_("id"), _("status"), _("server"), _("schema"), _("drift"), _("database"), _("size (MiB)")]
        rows = [
            (
                row["id"],
                row["status"],
                row["server"] or "",
                _schema(row),
                {None: _("not compared"), 0: _("none")}.get(_count(row["drift"]), _("yes")),
                {None: "", True: _("reachable"), False: _("unreachable")}[row["reachable"]],
                "" if row["size_bytes"] is None else f"{row['size_bytes'] / 2**20:.1f}",
                row["unfinished_operation"] or "",
                row["problem"] or "",
            )
            for row in document
        ]
        print_table([*columns, _("unfinished operation"), _("problem")], rows)

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options)
        unhealthy = [status.id for status in self.statuses if status.problem]
        if unhealthy:
            raise Refusal(_("Unhealthy: %(ids)s.") % {"ids": ", ".join(unhealthy)}, code="tenants_not_well")


def _schema(row: dict[str, Any]) -> str:
    state = SchemaState(row["schema_state"])
    return (
        str(state.label)
        if state in (SchemaState.CURRENT, SchemaState.UNKNOWN)
        else f"{state.label}: {short(row['schema_version'])}"
    )


def _count(drift: list[str] | None) -> int | None:
    return None if drift is None else len(drift)
