"""What can be done with tenants: one operation, one module."""

from tenants.services.backup import tenant_backup
from tenants.services.create import tenant_create
from tenants.services.migrate import tenant_migrate
from tenants.services.recover import tenant_recover
from tenants.services.restore import tenant_restore
from tenants.services.restore_undo import tenant_restore_undo
from tenants.services.rotate import credentials_rotate
from tenants.services.setup import control_setup
from tenants.services.suspend import tenant_resume, tenant_suspend
from tenants.services.work import clear_working, mark_working

__all__ = [
    "clear_working",
    "control_setup",
    "credentials_rotate",
    "mark_working",
    "tenant_backup",
    "tenant_create",
    "tenant_migrate",
    "tenant_recover",
    "tenant_restore",
    "tenant_restore_undo",
    "tenant_resume",
    "tenant_suspend",
]
