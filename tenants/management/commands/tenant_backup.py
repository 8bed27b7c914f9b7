from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand, Refusal
from config.base.output import print_table, size
from tenants.backup.backup import WORKERS, BackupOutcome, tenant_backup, tenant_backup_stream
from tenants.backup.dump import DumpFormat
from tenants.files.age_encryption import recipient_for
from tenants.files.locations import STANDARD, place_at
from tenants.management.commands.tenant_migrate import at_least
from tenants.presentation import backup_document, show_progress


class Command(OperatorCommand):
    help = "Back up the database of one tenant or of all, and optionally the files, to a folder or S3."

    outcomes: list[BackupOutcome]

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument(
            "--all", action="store_true", help="All tenants; continue if one fails, then exit with status 1."
        )
        which.add_argument("--tenant-id", help="Only this tenant.")
        parser.add_argument(
            "--output",
            required=True,
            metavar="DIR_OR_S3_URL",
            help="A folder or s3://bucket/prefix; or - to write one tenant's dump to standard output.",
        )
        parser.add_argument(
            "--format",
            choices=DumpFormat.values,
            default=DumpFormat.CUSTOM.value,
            help="pg_dump's format (default: custom).",
        )
        parser.add_argument("--with-storage", action="store_true", help="Include the tenant's files.")
        parser.add_argument(
            "--encrypt-to",
            metavar="RECIPIENT",
            help="An age recipient (default: BACKUP_AGE_RECIPIENT); empty for no encryption.",
        )
        parser.add_argument(
            "--workers",
            type=at_least(1),
            default=WORKERS,
            metavar="N",
            help=f"How many tenants to back up at a time (default: {WORKERS}).",
        )
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        self.outcomes = []
        if options["output"] == STANDARD and options["tenant_id"] and not options["with_storage"]:
            dump_format, recipient = DumpFormat(options["format"]), recipient_for(options["encrypt_to"])
            is_text = dump_format == DumpFormat.PLAIN and not recipient
            streamed = tenant_backup_stream(
                tenant_id=options["tenant_id"],
                target=self.binary_stdout(is_text=is_text),
                dump_format=dump_format,
                recipient=recipient,
                on_progress=show_progress,
            )
            return asdict(streamed)
        # Fail once here, instead of for each tenant.
        place_at(options["output"]).require_writable()
        self.outcomes = tenant_backup(
            tenant_id=options["tenant_id"],
            output=options["output"],
            dump_format=DumpFormat(options["format"]),
            with_storage=options["with_storage"],
            recipient=options["encrypt_to"],
            workers=int(options["workers"]),
            on_progress=show_progress,
        )
        return [
            {
                "tenant_id": outcome.tenant_id,
                "problem": outcome.problem,
                "backup": backup_document(outcome.backup) if outcome.backup else None,
            }
            for outcome in self.outcomes
        ]

    def present(self, document: Any) -> None:
        if isinstance(document, dict):
            said = {**document, "size": size(document["size_bytes"])}
            self.stderr.write(
                _("The database of tenant %(tenant_id)s was dumped to standard output (%(size)s).") % said, str
            )
            return
        made = [row["backup"] for row in document if row["backup"]]
        if made:
            rows = [(row["tenant_id"], row["file"], size(row["size_bytes"])) for row in made]
            print_table([_("tenant"), _("file"), _("size")], rows)
        for row in made:
            if row["large_objects_left_out"]:
                self.stderr.write(
                    _(
                        "Tenant %(tenant_id)s has large objects, which its backup does not include"
                        " (see `seo-gen tenant status --tenant-id %(tenant_id)s`)."
                    )
                    % row
                )

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options)
        failed = [outcome for outcome in self.outcomes if outcome.backup is None]
        for outcome in failed:
            self.stderr.write(outcome.problem)
        if failed:
            raise Refusal(
                _("Not backed up: %(ids)s.") % {"ids": ", ".join(outcome.tenant_id for outcome in failed)},
                code="tenants_not_backed_up",
            )
