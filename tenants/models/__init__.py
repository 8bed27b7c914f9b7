"""The control database's tables about tenants."""

from tenants.models.backups import Backup, BackupKind, BackupStatus, Restore, RestorePhase
from tenants.models.base_backups import BaseBackup, RestorePoint
from tenants.models.batches import GID_PREFIX, UNFINISHED, BatchStatus, BatchTenant, MigrationBatch, batch_of, parse_gid
from tenants.models.erasures import Erasure, ErasurePhase
from tenants.models.files_read import FileRead
from tenants.models.operations import OperationStatus, TenantOperation
from tenants.models.references import SchemaReference
from tenants.models.servers import DatabaseServer, database_prefix
from tenants.models.tenants import Tenant, TenantSchema, TenantStatus

__all__ = [
    "GID_PREFIX",
    "UNFINISHED",
    "Backup",
    "BackupKind",
    "BackupStatus",
    "BaseBackup",
    "BatchStatus",
    "BatchTenant",
    "DatabaseServer",
    "Erasure",
    "ErasurePhase",
    "FileRead",
    "MigrationBatch",
    "OperationStatus",
    "Restore",
    "RestorePhase",
    "RestorePoint",
    "SchemaReference",
    "Tenant",
    "TenantOperation",
    "TenantSchema",
    "TenantStatus",
    "batch_of",
    "database_prefix",
    "parse_gid",
]
