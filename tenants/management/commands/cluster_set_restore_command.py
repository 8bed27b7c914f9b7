from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand
from tenants.pitr.set_restore_command import cluster_set_restore_command


class Command(OperatorCommand):
    help = "Set the command that fetches a database server's WAL from another tool's archive."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--server", metavar="NAME", required=True, help="The server's name.")
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument(
            "--command", dest="restore_command", metavar="COMMAND", help="The restore_command, with %%f and %%p."
        )
        what.add_argument("--none", action="store_true", help="Remove the restore command.")
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        command = "" if options["none"] else options["restore_command"].strip()
        changed = cluster_set_restore_command(server_name=options["server"], command=command)
        return {"server": options["server"], "set": bool(command), "changed": changed}

    def present(self, document: Any) -> None:
        name = {"name": document["server"]}
        if not document["changed"]:
            self.stdout.write(_("Nothing changed for database server %(name)s.") % name)
        elif document["set"]:
            self.stdout.write(_("The restore command of database server %(name)s was set.") % name)
        else:
            self.stdout.write(_("The restore command of database server %(name)s was removed.") % name)
