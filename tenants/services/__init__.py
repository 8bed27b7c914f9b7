"""What can be done with tenants: one operation, one module."""

from tenants.services.audit_anchor import audit_anchor
from tenants.services.audit_export import audit_export, audit_stream
from tenants.services.audit_verify import audit_verify
from tenants.services.backup import tenant_backup, tenant_backup_stream
from tenants.services.backup_daily import backup_daily
from tenants.services.backup_prune import backup_prune
from tenants.services.backup_verify import backups_verify
from tenants.services.clone import tenant_clone
from tenants.services.create import tenant_create
from tenants.services.delete import tenant_delete, tenant_delete_check, tenant_loss
from tenants.services.drill import tenant_drill
from tenants.services.erasure_verify import ErasureCheck, erasures_verify
from tenants.services.export import tenant_export, tenant_export_stream
from tenants.services.import_bundle import tenant_import
from tenants.services.migrate import tenant_migrate
from tenants.services.orphans import tenant_orphans
from tenants.services.recover import tenant_recover
from tenants.services.restore import tenant_restore, tenant_restore_check
from tenants.services.restore_undo import tenant_restore_undo
from tenants.services.rotate import tenant_rotate
from tenants.services.rotate_keys import credentials_rotate
from tenants.services.setup import control_setup
from tenants.services.suspend import tenant_resume, tenant_suspend
from tenants.services.work import clear_working, mark_working

__all__ = [
    "ErasureCheck",
    "audit_anchor",
    "audit_export",
    "audit_stream",
    "audit_verify",
    "backup_daily",
    "backup_prune",
    "backups_verify",
    "clear_working",
    "control_setup",
    "credentials_rotate",
    "erasures_verify",
    "mark_working",
    "tenant_backup",
    "tenant_backup_stream",
    "tenant_clone",
    "tenant_create",
    "tenant_delete",
    "tenant_delete_check",
    "tenant_drill",
    "tenant_export",
    "tenant_export_stream",
    "tenant_import",
    "tenant_loss",
    "tenant_migrate",
    "tenant_orphans",
    "tenant_recover",
    "tenant_restore",
    "tenant_restore_check",
    "tenant_restore_undo",
    "tenant_resume",
    "tenant_rotate",
    "tenant_suspend",
]
