from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand
from tenants.files.locations import place_at
from tenants.pitr.base_backup import cluster_backup
from tenants.presentation import show_progress


class Command(OperatorCommand):
    help = "Make a base backup of a database server; with archived WAL, its tenants can be restored to any later time."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--server", metavar="NAME", help="The server's name (default: the default server).")
        parser.add_argument(
            "--output",
            metavar="DIR_OR_S3_URL",
            help="A folder or s3://bucket/prefix (default: CLUSTER_BACKUP_OUTPUT).",
        )
        parser.add_argument(
            "--incremental",
            action="store_true",
            help="Store only the changes since the newest base backup (PostgreSQL 17 and newer).",
        )
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        # Check this before the server starts a backup.
        place_at(options["output"] or settings.CLUSTER_BACKUP_OUTPUT).require_writable()
        backup = cluster_backup(
            server_name=options["server"],
            output=options["output"],
            incremental=options["incremental"],
            on_progress=show_progress,
        )
        return {
            "id": backup.pk,
            "server": backup.server_id,
            "path": place_at(backup.place).path(backup.name),
            "parent": backup.parent.name if backup.parent else None,
            "server_version": backup.server_version,
            "timeline": backup.timeline,
            "start_lsn": backup.start_lsn,
            "stop_lsn": backup.stop_lsn,
            "size_bytes": backup.size_bytes,
            "finished_at": backup.finished_at,
        }

    def present(self, document: Any) -> None:
        said = {**document, "size": f"{document['size_bytes'] / 2**20:.1f}"}
        self.stdout.write(_("Base backup of %(server)s: %(path)s (%(size)s MiB), verified.") % said)
