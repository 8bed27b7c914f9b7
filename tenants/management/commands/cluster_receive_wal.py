import sys
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand
from tenants.pitr.receive_wal import cluster_receive_wal


class Command(OperatorCommand):
    help = "Archive a database server's write-ahead log into a folder until stopped by Ctrl-C or SIGTERM."
    supports_json = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--server", metavar="NAME", required=True, help="The server's name.")
        parser.add_argument("--output", metavar="DIR", help="The folder (default: the server's WAL archive).")
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        def say(folder: str) -> None:
            said = {"name": options["server"], "folder": folder}
            print(_("Receiving the WAL of %(name)s into %(folder)s.") % said, file=sys.stderr, flush=True)

        cluster_receive_wal(server_name=options["server"], output=options["output"], on_start=say)
