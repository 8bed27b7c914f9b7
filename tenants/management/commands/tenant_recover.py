from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand, Refusal
from config.base.output import print_table
from tenants.presentation import show_progress
from tenants.unfinished import tenant_recover


class Command(OperatorCommand):
    help = "Finish or undo every interrupted operation; exit 1 if one could not be recovered."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--age-identity-file", metavar="FILE", help="The age identity that decrypts the backup of a restore."
        )
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        self.recoveries = tenant_recover(age_identity_file=options["age_identity_file"], on_progress=show_progress)
        return [asdict(recovery) for recovery in self.recoveries]

    def present(self, document: Any) -> None:
        if not document:
            self.stdout.write(_("Nothing to recover."))
            return
        rows = [(row["tenant_id"], row["kind"], row["outcome"], row["reason"]) for row in document]
        print_table([_("tenant"), _("operation"), _("outcome"), _("reason")], rows)

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options)
        # The tenant id of a batch is "*" if it changes several tenants.
        failed = [
            recovery.kind if recovery.tenant_id == "*" else recovery.tenant_id
            for recovery in self.recoveries
            if recovery.outcome == "failed"
        ]
        if failed:
            raise Refusal(_("Still unfinished: %(ids)s.") % {"ids": ", ".join(failed)}, code="operations_unfinished")
