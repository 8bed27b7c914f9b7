"""Try out a restore: load the tenant's data into a scratch database, verify and migrate it, and time each step."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from uuid import uuid4

from django.db import Error, transaction
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext as _

from audit.log.entries import record
from config.base.databases import CONTROL
from tenants.errors import TenantError, TenantNotActive, disk_failures_told, failure_reason
from tenants.files.age_encryption import age_identity_require
from tenants.files.files_read import DRILL, Reader, holding_proven, reading_begin
from tenants.models import Backup, BackupKind, BackupStatus, BaseBackup, DatabaseServer, Tenant, database_prefix
from tenants.naming import work_name
from tenants.operations import block_deletion
from tenants.restore import workflow
from tenants.restore.build import Expected
from tenants.restore.sources import BackupFile, backup_find, state_at
from tenants.restore.verify_backup import build_throwaway, timed
from tenants.schema.inspection import database_of
from tenants.selectors import tenant_get
from tenants.servers.session import ServerSession
from tenants.types import DrillReport, OnProgress, Progress, ignore_progress

# How far before the present the default target time is.
BACK = timedelta(seconds=1)


def tenant_drill(
    *,
    tenant_id: str,
    backup_file: str | None = None,
    to_time: datetime | None = None,
    age_identity_file: str | None = None,
    on_progress: OnProgress = ignore_progress,
) -> DrillReport:
    """Restore the tenant into a scratch database, drop that database, and report how long each step took.

    The source is the given backup or time. The default is one second ago if the server has a base backup, and
    otherwise the tenant's newest backup. The tenant is not changed. Raises `TenantError` if the restore fails.
    """
    tenant = tenant_get(tenant_id)
    if tenant.status not in workflow.RESTORABLE:
        raise TenantNotActive(tenant.id, tenant.status)
    age_identity_require(age_identity_file)
    server = tenant.require_server()
    if backup_file is None and to_time is None:
        backup_file, to_time = _default(tenant, server)
    file = backup_find(backup_file, age_identity_file) if backup_file is not None else None
    _record(tenant, file, to_time)
    try:
        report = _drill(tenant, server, file, to_time, on_progress)
        _record_end(tenant, "tenant.drill.complete", source=report.source, seconds=report.seconds)
    except BaseException as error:
        with suppress(Error):
            _record_end(tenant, "tenant.drill.fail", reason=failure_reason(error))
        raise
    on_progress(Progress(tenant.id, "done"))
    return report


def _drill(
    tenant: Tenant, server: DatabaseServer, file: BackupFile | None, to_time: datetime | None, on_progress: OnProgress
) -> DrillReport:
    timing_s: dict[str, float] = {}
    with (
        block_deletion(tenant.id),
        ServerSession(server, database_prefix(), work_name("drill", tenant.identity)) as server_session,
        timed(timing_s) as next_step,
        disk_failures_told(),
    ):

        def on_step(step: str) -> None:
            next_step(step)
            on_progress(Progress(tenant.id, step))

        if file is not None:
            built = build_throwaway(server_session, file, Expected.of(tenant, file), on_step=on_step)
            holding_proven(file.given(with_storage=False), tenant.identity)
            description = file.description
        else:
            on_step("recover")
            with state_at(server, database_of(tenant), to_time, work=str(uuid4())) as source:
                built = build_throwaway(server_session, source, Expected.of(tenant, source), on_step=on_step)
                description = source.description
            DatabaseServer.objects.using(CONTROL).filter(pk=server.pk).update(recovery_verified_at=Now())
    return DrillReport(
        tenant_id=tenant.id,
        source=description,
        version=built.version,
        rows=built.census.rows,
        timing_s=timing_s,
        seconds=round(sum(timing_s.values()), 1),
    )


def _default(tenant: Tenant, server: DatabaseServer) -> tuple[str | None, datetime | None]:
    if BaseBackup.objects.using(CONTROL).filter(server=server, status=BackupStatus.COMPLETED).exists():
        return None, timezone.now() - BACK
    completed = Backup.objects.using(CONTROL).filter(
        tenant_id=tenant.id, status=BackupStatus.COMPLETED, kind=BackupKind.BACKUP
    )
    newest = completed.order_by("-started_at").first()
    if newest is None:
        raise TenantError(
            _("Tenant %(id)s has no backup, and its server has no base backup.") % {"id": tenant.id},
            hint=_("Make one with `seo-gen tenant backup` or `seo-gen cluster backup`."),
            page_hint=_("“Back up” on the tenant's page makes one."),
            code="backup_none",
        )
    return f"{newest.place}/{newest.name}", None


def _record(tenant: Tenant, file: BackupFile | None, to_time: datetime | None) -> None:
    details: dict[str, object] = {
        "file": file.description if file else None,
        "to_time": to_time.isoformat() if to_time else None,
    }
    with transaction.atomic(using=CONTROL):
        if file is not None:
            readers = [Reader(tenant.id, tenant.identity)]
            reading_begin(file.given(with_storage=False), purpose=DRILL, readers=readers)
        record(using=CONTROL, action="tenant.drill", resource_type="tenant", resource_id=tenant.id, details=details)


def _record_end(tenant: Tenant, action: str, **details: object) -> None:
    with transaction.atomic(using=CONTROL):
        record(using=CONTROL, action=action, resource_type="tenant", resource_id=tenant.id, details=details)
