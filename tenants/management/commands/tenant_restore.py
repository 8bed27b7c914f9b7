from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from config.base.command import OperatorCommand, Refusal
from config.base.times import to_minute
from tenants.presentation import aware_time, show_progress
from tenants.restore.restore import tenant_restore, tenant_restore_check
from tenants.restore.undo import tenant_restore_undo
from tenants.selectors import tenant_get
from tenants.transfer.clone import tenant_clone

# How many items of each list are shown; --json shows more.
SHOWN = 10


class Command(OperatorCommand):
    help = "Restore a tenant from a backup or to a point in time, undo that, or create a new tenant from it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant-id", required=True, help="The tenant's id, as `tenant list` shows it.")
        source = parser.add_mutually_exclusive_group(required=True)
        source.add_argument("--backup-file", metavar="FILE", help="A dump, custom or plain: a path or s3://bucket/key.")
        source.add_argument("--to-time", metavar="TIME", help="A time, in ISO 8601 with its UTC offset.")
        source.add_argument("--undo", action="store_true", help="Put back the database that the last restore replaced.")
        parser.add_argument(
            "--as", dest="new_id", metavar="NEW_ID", help="Create a new tenant instead, and leave this one unchanged."
        )
        parser.add_argument(
            "--from-erased",
            default="",
            metavar="REASON",
            help="With --as: restore the data of an erased tenant anyway; the reason is logged.",
        )
        parser.add_argument(
            "--age-identity-file", metavar="FILE", help="The age identity that decrypts an encrypted backup."
        )
        parser.add_argument(
            "--stop-runs",
            action="store_true",
            help="Continue even if runs are in progress: a restore makes them fail, an undo leaves them as they are.",
        )
        parser.add_argument("--confirm", action="store_true", help="Skip the prompt for the tenant's id.")
        super().add_arguments(parser)

    def check_options(self, options: Mapping[str, Any]) -> None:
        super().check_options(options)
        if options["new_id"] and options["undo"]:
            raise Refusal(
                _("--undo puts back a tenant's own database; it cannot create another tenant."),
                code="options_conflict",
            )
        if options["from_erased"] and not options["new_id"]:
            raise Refusal(
                _("--from-erased requires --as: the id of an erased tenant is never used again."),
                code="options_conflict",
            )

    def perform(self, **options: Any) -> Any:
        tenant_id, new_id = options["tenant_id"], options["new_id"]
        to_time = aware_time(options["to_time"]) if options["to_time"] else None
        source = {
            "backup_file": options["backup_file"],
            "to_time": to_time,
            "age_identity_file": options["age_identity_file"],
        }
        tenant_get(tenant_id)
        if new_id:
            return asdict(
                tenant_clone(
                    tenant_id=tenant_id,
                    new_id=new_id,
                    from_erased=options["from_erased"],
                    on_progress=show_progress,
                    **source,
                )
            )
        tenant_restore_check(tenant_id=tenant_id, undo=options["undo"], **source)
        self.confirm(
            tenant_id,
            ngettext(
                "The database of tenant %(id)s will be replaced. It is kept for %(days)d day, and can be put back"
                " with --undo.",
                "The database of tenant %(id)s will be replaced. It is kept for %(days)d days, and can be put back"
                " with --undo.",
                settings.RESTORE_UNDO_DAYS,
            )
            % {"id": tenant_id, "days": settings.RESTORE_UNDO_DAYS},
            confirmed=options["confirm"],
            can_be_undone=True,
        )
        if options["undo"]:
            return asdict(
                tenant_restore_undo(tenant_id=tenant_id, stop_runs=options["stop_runs"], on_progress=show_progress)
            )
        return asdict(
            tenant_restore(tenant_id=tenant_id, stop_runs=options["stop_runs"], on_progress=show_progress, **source)
        )

    def present(self, document: Any) -> None:
        if "from_tenant" in document:
            self.stdout.write(_("Tenant %(tenant_id)s was created from %(source)s and is active.") % document)
        else:
            self._present_restore(document)
        self._list(_("Missing or changed files that rows refer to"), document, "missing_files")

    def _present_restore(self, document: Any) -> None:
        self.stdout.write(_("Tenant %(tenant_id)s was restored from %(source)s.") % document)
        if document["unavailable_ms"] is not None:
            self.stdout.write(_("It was closed for %(unavailable_ms)d ms while the databases were swapped.") % document)
        if document["kept_until"]:
            until = to_minute(document["kept_until"])
            self.stdout.write(
                _("You can undo this until %(until)s: run `seo-gen tenant restore --tenant-id %(id)s --undo`.")
                % {"until": until, "id": document["tenant_id"]}
            )
        self._list(_("Migrations applied"), document, "migrations")
        self._list(_("Schema differences that the source already had"), document, "drift")
        self._list(_("Runs that had not finished and are now marked as failed"), document, "failed_runs")
        self._list(_("Lost runs (newer than the restored state)"), document, "lost_runs")
        self._list(_("Runs that are back"), document, "returned_runs")
        self._list(_("Restored files"), document, "restored_files")
        self._list(_("Orphaned files (referenced only by the replaced database, or by nothing)"), document, "orphans")

    def _list(self, title: str, document: Mapping[str, Any], key: str) -> None:
        names = document[key]
        count = document.get("counts", {}).get(key, len(names))
        if names:
            self.stdout.write(f"{title}: {count}")
            for name in names[:SHOWN]:
                self.stdout.write(f"  {name}")
            if count > SHOWN:
                self.stdout.write(_("  and %(count)d more") % {"count": count - SHOWN})
