from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand, Refusal
from config.base.output import print_table
from tenants.pitr.verify import cluster_verify
from tenants.presentation import show_progress


class Command(OperatorCommand):
    help = "Read a server's base backups and archived log, and compare checksums; exit 1 if something is damaged."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--server", metavar="NAME", help="The server's name; the default server unless given.")
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        self.verified = cluster_verify(server_name=options["server"], on_progress=show_progress)
        return [asdict(one) for one in self.verified]

    def present(self, document: Any) -> None:
        kinds = {"base backup": _("base backup"), "WAL archive": _("WAL archive")}
        rows = [(kinds[row["kind"]], row["path"], row["problem"] or _("whole")) for row in document]
        print_table([_("kind"), _("file"), _("found")], rows)

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options)
        bad = [one.path for one in self.verified if one.problem]
        if bad:
            raise Refusal(_("Not whole: %(files)s.") % {"files": ", ".join(bad)}, code="server_backups_not_whole")
