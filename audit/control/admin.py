"""The control database's audit log as staff read it."""

from audit.admin import AuditEntryAdmin


class ControlAuditLogAdmin(AuditEntryAdmin):
    """Operators' commands and staff's changes of configuration."""
