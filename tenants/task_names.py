"""The names by which tasks are sent, so that services need not import them."""

BACKUP_DAILY = "tenants.backup_daily"
AUDIT_ANCHOR = "tenants.audit_anchor"
