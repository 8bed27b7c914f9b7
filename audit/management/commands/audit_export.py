from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from audit.verification.export import audit_export, audit_stream
from config.base.command import OperatorCommand
from tenants.files.locations import STANDARD


class Command(OperatorCommand):
    help = "Export an audit log to a file that can be verified without a database."

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--tenant-id", help="This tenant's log, even if the tenant was erased.")
        which.add_argument("--control", action="store_true", help="The control database's own log.")
        parser.add_argument(
            "--output", required=True, metavar="FILE", help="A new file, s3://bucket/key, or - for standard output."
        )
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        if options["output"] != STANDARD:
            return asdict(audit_export(tenant_id=options["tenant_id"], output=options["output"]))
        target = self.binary_stdout(is_text=True)
        return asdict(audit_stream(tenant_id=options["tenant_id"], target=target))

    def present(self, document: Any) -> None:
        ends = _("The chain begins with %(chain_identity)s and ends with the hash %(head)s.") % document
        if document["file"] == STANDARD:
            # Standard output carries the log only.
            written = ngettext(
                "Wrote %(entries)d audit log entry to standard output.",
                "Wrote %(entries)d audit log entries to standard output.",
                document["entries"],
            )
            written %= document
            self.stderr.write(f"{written}\n{ends}", style_func=str)
        else:
            written = ngettext(
                "Wrote %(entries)d audit log entry to %(file)s.",
                "Wrote %(entries)d audit log entries to %(file)s.",
                document["entries"],
            )
            self.stdout.write(written % document)
            self.stdout.write(ends)
        if document["first_bad"] is not None:
            broken = _("The chain is broken at entry %(first_bad)d; the log was exported unchanged.") % document
            self.stderr.write(self.style.WARNING(broken))
