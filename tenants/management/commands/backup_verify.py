from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand, Refusal
from config.base.output import print_table
from tenants.presentation import show_progress
from tenants.restore.verify_backup import backups_verify


class Command(OperatorCommand):
    help = "Restore backups into a scratch database and check the result; exit with status 1 if one fails."

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--all", action="store_true", help="The newest backup of every tenant.")
        which.add_argument("--file", help="Only this backup: a path or s3://bucket/key.")
        parser.add_argument(
            "--age-identity-file", metavar="FILE", help="The age identity that decrypts an encrypted backup."
        )
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        self.verifications = backups_verify(
            file=options["file"], age_identity_file=options["age_identity_file"], on_progress=show_progress
        )
        return [asdict(one) for one in self.verifications]

    def present(self, document: Any) -> None:
        rows = [
            (row["tenant_id"], row["file"], f"{row['seconds']:.1f}", row["problem"] or _("intact")) for row in document
        ]
        print_table([_("tenant"), _("file"), _("seconds"), _("result")], rows)

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options)
        bad = [one.file for one in self.verifications if one.problem]
        if bad:
            raise Refusal(_("Verification failed: %(files)s.") % {"files": ", ".join(bad)}, code="backups_not_whole")
