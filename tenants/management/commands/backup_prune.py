from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand, Refusal
from config.base.output import print_table
from tenants.retention.prune import backup_prune


class Command(OperatorCommand):
    help = "Remove expired backups, base backups and archived WAL, and expired databases that restores replaced."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--days",
            type=int,
            metavar="N",
            help="Keep backups for N days (default: BACKUP_RETENTION_DAYS).",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="Only show which backups and replaced databases would be removed."
        )
        super().add_arguments(parser)

    def check_options(self, options: Mapping[str, Any]) -> None:
        super().check_options(options)
        if _days(options) < 0:
            raise Refusal(_("--days must be 0 or more."), code="retention_invalid")

    def perform(self, **options: Any) -> Any:
        self.pruned = backup_prune(days=_days(options), dry_run=options["dry_run"])
        return {"dry_run": options["dry_run"], "removed": [asdict(one) for one in self.pruned]}

    def present(self, document: Any) -> None:
        if not document["removed"]:
            # A dry run checks neither base backups nor archived WAL.
            self.stdout.write(
                _("There is no backup or replaced database to remove.")
                if document["dry_run"]
                else _("There is nothing to remove.")
            )
            return
        rows = [(row["tenant_id"], row["kind"], row["what"], row["problem"]) for row in document["removed"]]
        print_table([_("tenant"), _("kind"), _("item"), _("problem")], rows)
        if document["dry_run"]:
            self.stdout.write(_("Dry run: nothing was removed."))

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options)
        failed = [one.what or one.kind for one in self.pruned if one.problem]
        if failed:
            raise Refusal(_("Not removed: %(names)s.") % {"names": ", ".join(failed)}, code="backups_not_removed")


def _days(options: Mapping[str, Any]) -> int:
    return int(settings.BACKUP_RETENTION_DAYS if options["days"] is None else options["days"])
