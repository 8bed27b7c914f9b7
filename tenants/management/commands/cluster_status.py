from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand, Refusal
from config.base.output import print_table
from tenants.pitr.status import cluster_statuses


class Command(OperatorCommand):
    help = "Show to which times each server's tenants can be restored; exit with status 1 if there are problems."

    def perform(self, **options: Any) -> Any:
        self.statuses = cluster_statuses()
        return [asdict(status) for status in self.statuses]

    def present(self, document: Any) -> None:
        columns = [
            *(_("server"), _("base backups"), _("restorable from"), _("restorable to")),
            *(_("WAL archive"), _("restore last tested")),
        ]
        rows = [
            (
                row["server"],
                len(row["base_backups"]),
                _time(row["earliest"]),
                _time(row["latest"]),
                row["wal_archive"],
                _time(row["recovery_verified_at"]) or _("never"),
            )
            for row in document
        ]
        print_table(columns, rows)

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options)
        problems = [f"{status.server}: {problem}" for status in self.statuses for problem in status.problems]
        if problems:
            raise Refusal("\n".join(problems), code="servers_not_recoverable")


def _time(moment: datetime | None) -> str:
    return f"{localtime(moment):%Y-%m-%d %H:%M:%S%z}" if moment else ""
