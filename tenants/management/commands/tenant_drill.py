from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand
from config.base.output import print_table
from tenants.presentation import aware_time, show_progress
from tenants.restore.drill import tenant_drill


class Command(OperatorCommand):
    help = "Rehearse a tenant's restore in a scratch database and time each step; the tenant is not touched."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant-id", required=True, help="The tenant's id, as `tenant list` shows it.")
        source = parser.add_mutually_exclusive_group()
        source.add_argument("--backup-file", metavar="FILE", help="A path or s3://bucket/key.")
        source.add_argument(
            "--to-time",
            metavar="TIME",
            help=(
                "A time, in ISO 8601 with its UTC offset (default: now, or the newest backup if the server has no base"
                " backup)."
            ),
        )
        parser.add_argument(
            "--age-identity-file", metavar="FILE", help="The age identity that decrypts an encrypted backup."
        )
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        report = tenant_drill(
            tenant_id=options["tenant_id"],
            backup_file=options["backup_file"],
            to_time=aware_time(options["to_time"]) if options["to_time"] else None,
            age_identity_file=options["age_identity_file"],
            on_progress=show_progress,
        )
        return asdict(report)

    def present(self, document: Any) -> None:
        rows = [(step, f"{seconds:.1f}") for step, seconds in document["timing_s"].items()]
        print_table([_("step"), _("seconds")], rows)
        self.stdout.write(
            _(
                "Tenant %(tenant_id)s can be restored from %(source)s; the drill took %(seconds).1f s. A restore also"
                " swaps the databases."
            )
            % document
        )
