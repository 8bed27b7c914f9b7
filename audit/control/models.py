"""The control database's audit log: operators' commands and staff's changes of configuration."""

from audit.models import AuditEntry, ChainHead


class ControlAuditLog(AuditEntry):
    class Meta(AuditEntry.Meta):
        db_table = "control_audit_logs"


class ControlAuditChainHead(ChainHead):
    class Meta(ChainHead.Meta):
        db_table = "control_audit_chain_heads"
