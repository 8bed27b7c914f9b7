from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand, Refusal
from tenants.lifecycle.rotate import GRACE_S, tenant_rotate
from tenants.management.commands.tenant_migrate import at_least


class Command(OperatorCommand):
    help = "Give the database role of one tenant, or of all, a new password, and reset the role's limits."

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--all", action="store_true", help="Every tenant; continues after a failure, then exits 1.")
        which.add_argument("--tenant-id", help="Only this tenant.")
        parser.add_argument(
            "--grace",
            type=at_least(0),
            default=GRACE_S,
            metavar="SECONDS",
            help=f"How long busy sessions may keep using the old password ({GRACE_S:g}); 0 ends them now.",
        )
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        self.rotations = tenant_rotate(tenant_id=options["tenant_id"], grace_s=options["grace"])
        return [asdict(rotation) for rotation in self.rotations]

    def present(self, document: Any) -> None:
        for row in document:
            if not row["problem"]:
                self.stdout.write(_("The database role of tenant %(tenant_id)s has a new password.") % row)

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options)
        failed = [rotation for rotation in self.rotations if rotation.problem]
        for rotation in failed:
            self.stderr.write(rotation.problem)
        if failed:
            raise Refusal(
                _("The password change did not finish for: %(ids)s.")
                % {"ids": ", ".join(rotation.tenant_id for rotation in failed)},
                code="tenants_not_rotated",
            )
