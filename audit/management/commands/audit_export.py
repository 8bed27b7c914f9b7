from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from audit.verification.export import audit_export, audit_stream
from config.base.command import OperatorCommand
from tenants.files.locations import STANDARD


class Command(OperatorCommand):
    help = "Write an audit log with its chain to a file, which can be verified without a database."

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--tenant-id", help="This tenant's log, also after it was erased.")
        which.add_argument("--control", action="store_true", help="The control database's own log.")
        parser.add_argument(
            "--output", required=True, metavar="FILE", help="A new file, s3://bucket/key, or - for standard output."
        )
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        if options["output"] != STANDARD:
            return asdict(audit_export(tenant_id=options["tenant_id"], output=options["output"]))
        target = self.binary_stdout(json=options["json"], is_text=True)
        return asdict(audit_stream(tenant_id=options["tenant_id"], target=target))

    def present(self, document: Any) -> None:
        ends = _("Its chain begins with %(chain_identity)s and ends with %(head)s.") % document
        if document["file"] == STANDARD:
            # Standard output holds the log itself, and nothing else.
            written = ngettext(
                "%(entries)d entry of the audit log was written to standard output.",
                "%(entries)d entries of the audit log were written to standard output.",
                document["entries"],
            )
            written %= document
            self.stderr.write(f"{written}\n{ends}", style_func=str)
        else:
            written = ngettext(
                "%(entries)d entry of the audit log is in %(file)s.",
                "%(entries)d entries of the audit log are in %(file)s.",
                document["entries"],
            )
            self.stdout.write(written % document)
            self.stdout.write(ends)
        if document["first_bad"] is not None:
            broken = _("The chain is broken at entry %(first_bad)d; it was written as it is.") % document
            self.stderr.write(self.style.WARNING(broken))
