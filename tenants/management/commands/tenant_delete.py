from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.approvals import DELETE, check_approval
from config.base.command import OperatorCommand, Refusal
from tenants.erasure.delete import DELETABLE, tenant_delete, tenant_delete_check, tenant_loss
from tenants.erasure.loss import loss_lines
from tenants.erasure.presentation import erasure_document, print_certificate
from tenants.erasure.steps import AUDIT_LOSS, LOST_BACKUPS
from tenants.erasure_ledger import erasure_get
from tenants.models import Tenant, TenantStatus
from tenants.presentation import show_progress
from tenants.selectors import tenant_get


class Command(OperatorCommand):
    help = "Permanently erase a tenant: databases, files, backups, messages, roles. Its audit log is kept."

    asks_second_person = True

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant-id", required=True, help="The tenant's id, as `tenant list` shows it.")
        parser.add_argument("--confirm", action="store_true", help="Skip the prompt for the tenant's id.")
        parser.add_argument(
            "--accept-audit-loss", action="store_true", help="Continue even if its audit log is broken or missing."
        )
        parser.add_argument(
            "--accept-lost-backups", action="store_true", help="Continue even if its backups cannot be reached."
        )
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        tenant_id = options["tenant_id"]
        tenant = tenant_get(tenant_id)
        # A tenant that is erased, or being erased, needs no second confirmation.
        if tenant.status in DELETABLE:
            names = ("accept_audit_loss", "accept_lost_backups")
            check_approval(DELETE, tenant_id, {name: options[name] for name in names})
        elif options["request_approval"] and tenant.status in (TenantStatus.DELETING, TenantStatus.DELETED):
            self._require_something_to_approve(tenant, options)
        if tenant.status in DELETABLE and not options["confirm"]:
            tenant_delete_check(tenant_id=tenant_id, accept_audit_loss=options["accept_audit_loss"])
            self.confirm(tenant_id, "\n".join(loss_lines(tenant_loss(tenant_id=tenant_id))), confirmed=False)
        row = tenant_delete(
            tenant_id=tenant_id,
            accept_audit_loss=options["accept_audit_loss"],
            accept_lost_backups=options["accept_lost_backups"],
            on_progress=show_progress,
        )
        return erasure_document(row) | {"already": tenant.status == TenantStatus.DELETED}

    def _require_something_to_approve(self, tenant: Tenant, options: Mapping[str, Any]) -> None:
        accepted = erasure_get(tenant.id).accepts
        given = {AUDIT_LOSS: options["accept_audit_loss"], LOST_BACKUPS: options["accept_lost_backups"]}
        if any(is_given and loss not in accepted for loss, is_given in given.items()):
            return
        raise Refusal(
            _("The deletion of tenant %(id)s has already begun or is complete, so there is nothing to approve.")
            % {"id": tenant.id},
            hint=_("Run the command without --request-approval."),
            code="options_conflict",
        )

    def present(self, document: Any) -> None:
        if document["already"]:
            self.stdout.write(_("Tenant %(tenant_id)s was already erased; nothing was done.") % document)
        print_certificate(document, self.stdout)
