from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand, Refusal
from config.base.output import print_table
from tenants.pitr.verify import cluster_verify
from tenants.presentation import show_progress


class Command(OperatorCommand):
    help = "Verify the checksums of a server's base backups and archived WAL; exit with status 1 if any is damaged."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--server", metavar="NAME", help="The server's name (default: the default server).")
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        self.verified = cluster_verify(server_name=options["server"], on_progress=show_progress)
        return [asdict(one) for one in self.verified]

    def present(self, document: Any) -> None:
        kinds = {"base backup": _("base backup"), "WAL archive": _("WAL archive")}
        rows = [(kinds[row["kind"]], row["path"], row["problem"] or _("intact")) for row in document]
        print_table([_("kind"), _("path"), _("result")], rows)

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options)
        bad = [one.path for one in self.verified if one.problem]
        if bad:
            raise Refusal(
                _("Verification failed: %(files)s.") % {"files": ", ".join(bad)}, code="server_backups_not_whole"
            )
