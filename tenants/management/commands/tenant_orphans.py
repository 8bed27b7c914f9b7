from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from config.base.command import OperatorCommand
from config.base.output import print_table, size
from tenants.restore.orphans import tenant_orphans


class Command(OperatorCommand):
    help = "List or remove a tenant's files that no row refers to, such as those that a restore left behind."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant-id", required=True, help="The tenant's id, as `tenant list` shows it.")
        parser.add_argument("--remove", action="store_true", help="Remove the files.")
        parser.add_argument("--confirm", action="store_true", help="Skip the prompt for the tenant's id.")
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        tenant_id = options["tenant_id"]
        found = tenant_orphans(tenant_id=tenant_id)
        if options["remove"] and found:
            self.confirm(
                tenant_id,
                ngettext(
                    "%(count)d file of tenant %(id)s will be removed.",
                    "%(count)d files of tenant %(id)s will be removed.",
                    len(found),
                )
                % {"count": len(found), "id": tenant_id},
                confirmed=options["confirm"],
            )
            found = tenant_orphans(tenant_id=tenant_id, remove=True)
        return {"removed": options["remove"], "files": [asdict(one) for one in found]}

    def present(self, document: Any) -> None:
        if not document["files"]:
            self.stdout.write(_("There are no orphaned files."))
            return
        print_table([_("file"), _("size")], [(one["path"], size(one["size_bytes"])) for one in document["files"]])
        if document["removed"]:
            count = len(document["files"])
            self.stdout.write(
                ngettext("Removed: %(count)d file.", "Removed: %(count)d files.", count) % {"count": count}
            )
