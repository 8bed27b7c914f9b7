from typing import Any

from django.core.management.base import CommandParser
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from config.base.command import OperatorCommand
from config.base.output import size
from tenants.erasure.delete import DELETABLE, Loss, tenant_delete, tenant_delete_check, tenant_loss
from tenants.erasure.inventory import THERE
from tenants.erasure.presentation import erasure_document, kind_of, print_certificate
from tenants.models import BackupKind, TenantStatus
from tenants.presentation import show_progress
from tenants.selectors import tenant_get


class Command(OperatorCommand):
    help = "Permanently erase a tenant: databases, files, backups, messages, roles. Its audit log is kept."

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
        if tenant.status in DELETABLE and not options["confirm"]:
            tenant_delete_check(tenant_id=tenant_id, accept_audit_loss=options["accept_audit_loss"])
            self.confirm(tenant_id, consequence(tenant_loss(tenant_id=tenant_id)), confirmed=False)
        row = tenant_delete(
            tenant_id=tenant_id,
            accept_audit_loss=options["accept_audit_loss"],
            accept_lost_backups=options["accept_lost_backups"],
            on_progress=show_progress,
        )
        return erasure_document(row) | {"already": tenant.status == TenantStatus.DELETED}

    def present(self, document: Any) -> None:
        if document["already"]:
            self.stdout.write(_("Tenant %(tenant_id)s was already erased; nothing was done.") % document)
        print_certificate(document, self.stdout)


def consequence(loss: Loss) -> str:
    """Return what will be lost, with sizes and the last backup."""
    lines = [
        _("Tenant %(id)s (%(name)s) will be erased and cannot be restored:") % {"id": loss.tenant_id, "name": loss.name}
    ]
    lines += [f"  {_('database')} {one.name} ({kind_of(one.kind)}): {size(one.size_bytes)}" for one in loss.databases]
    lines.append("  " + _("rows: %(rows)s") % {"rows": ", ".join(f"{table} {n}" for table, n in shown(loss.rows))})
    lines.append(
        "  "
        + ngettext(
            "files: %(objects)d (%(versions)d version), %(size)s",
            "files: %(objects)d (%(versions)d versions), %(size)s",
            loss.storage.versions,
        )
        % {
            "objects": loss.storage.objects,
            "versions": loss.storage.versions,
            "size": size(loss.storage.size_bytes),
        }
    )
    lines += [f"  {BackupKind(one.kind).label} {one.file}: {size(one.size_bytes)}" for one in loss.backups]
    lines += [
        "  "
        + (
            _("file %(file)s, which was read for this tenant")
            if one.goes
            else _("not removed: file %(file)s, which was read for this tenant but is not managed by the product")
        )
        % {"file": one.file}
        for one in loss.files
        if one.state == THERE
    ]
    if loss.at_work:
        lines.append("  " + _("runs in progress: %(count)d") % {"count": len(loss.at_work)})
    lines.append(
        _("Its last backup (%(time)s) will be deleted too.")
        % {"time": f"{localtime(loss.last_backup_at):%Y-%m-%d %H:%M}"}
        if loss.last_backup_at
        else _("It has no backup.")
    )
    entries = loss.rows.get("audit_logs", 0)
    kept = ngettext("Its audit log (%(count)d entry) is kept.", "Its audit log (%(count)d entries) is kept.", entries)
    lines.append(kept % {"count": entries})
    return "\n".join(lines)


def shown(rows: dict[str, int]) -> list[tuple[str, int]]:
    """Pick the tables that operators know."""
    return [(table, rows[table]) for table in ("runs", "steps", "artifacts", "prompts") if table in rows]
