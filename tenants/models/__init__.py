"""The control database's tables about tenants."""

from tenants.models.access import Role, RoleAssignment, RoleScope, TemporaryAccess, TenantGroup
from tenants.models.approvals import Approval, ApprovalKind, ApprovalStatus
from tenants.models.backups import Backup, BackupKind, BackupStatus, Restore, RestorePhase
from tenants.models.base_backups import BaseBackup, RestorePoint
from tenants.models.batches import (
    GID_PREFIX,
    UNFINISHED,
    BatchKind,
    BatchStatus,
    BatchTenant,
    MigrationBatch,
    batch_of,
    parse_gid,
)
from tenants.models.erasures import Erasure, ErasurePhase
from tenants.models.files_read import FileRead
from tenants.models.operations import OperationStatus, TenantOperation
from tenants.models.references import SchemaReference
from tenants.models.requested import ABOUT_SEVERAL, OPEN, OperationRequest, RequestKind, RequestStatus
from tenants.models.servers import DatabaseServer, database_prefix
from tenants.models.tenants import Tenant, TenantSchema, TenantStatus

__all__ = [
    "ABOUT_SEVERAL",
    "GID_PREFIX",
    "OPEN",
    "UNFINISHED",
    "Approval",
    "ApprovalKind",
    "ApprovalStatus",
    "Backup",
    "BackupKind",
    "BackupStatus",
    "BaseBackup",
    "BatchKind",
    "BatchStatus",
    "BatchTenant",
    "DatabaseServer",
    "Erasure",
    "ErasurePhase",
    "FileRead",
    "MigrationBatch",
    "OperationRequest",
    "OperationStatus",
    "RequestKind",
    "RequestStatus",
    "Restore",
    "RestorePhase",
    "RestorePoint",
    "Role",
    "RoleAssignment",
    "RoleScope",
    "SchemaReference",
    "TemporaryAccess",
    "Tenant",
    "TenantGroup",
    "TenantOperation",
    "TenantSchema",
    "TenantStatus",
    "batch_of",
    "database_prefix",
    "parse_gid",
]
