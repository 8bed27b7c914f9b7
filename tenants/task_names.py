"""Names of Celery tasks, so that services can send a task without importing it."""

BACKUP_DAILY = "tenants.backup_daily"
AUDIT_ANCHOR = "tenants.audit_anchor"
OPERATION_RUN = "tenants.operation_run"
OPERATIONS_SWEEP = "tenants.operations_sweep"
