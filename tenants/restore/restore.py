"""Restore a tenant from a backup or to a point in time: load beside the live database, verify, swap by renaming.

The tenant is closed only for the swap (`tenants.restore.swap`). A restore that fails or is interrupted before the swap
leaves the live database unchanged; after the swap, it has to be finished before it can be undone. For the
reasons, see docs/adr/0009-backup-and-restore.md.
"""

from __future__ import annotations

import time
from datetime import datetime

from django.utils.translation import gettext as _

from config.base.databases import CONTROL
from config.base.errors import SeoGenError
from tenants.app_hooks import contents
from tenants.errors import RestoreRefused, TenantError, TenantNotActive
from tenants.files.age_encryption import age_identity_require
from tenants.files.files_read import holding_proven
from tenants.models import Restore, Tenant, database_prefix
from tenants.pitr.recover_server import Target, require_reachable
from tenants.restore import workflow
from tenants.restore.build import Built
from tenants.restore.sources import BackupFile, backup_find, described, state_at
from tenants.restore.undo import replaced_last
from tenants.restore.workflow import KIND, work_of
from tenants.routing.owner_connection import owner_connection
from tenants.selectors import require_finished, tenant_get
from tenants.servers.session import ServerSession
from tenants.types import OnProgress, Progress, RestoreReport, ignore_progress


def tenant_restore(
    *,
    tenant_id: str,
    backup_file: str | None = None,
    to_time: datetime | None = None,
    age_identity_file: str | None = None,
    stop_runs: bool = False,
    on_progress: OnProgress = ignore_progress,
) -> RestoreReport:
    """Replace the tenant's database with the backup, or with its state at `to_time` (aware); keep the replaced one.

    Pass exactly one of `backup_file` and `to_time`. Runs in progress block the restore unless `stop_runs` is set; their
    workers then lose their claims. Raises `UnknownTenant`, `TenantNotActive`, `TenantBusy`, `TenantWithoutServer`,
    `FleetBusy` or `FleetUnfinished` before it starts, or `RestoreRefused` with the reason; the live database is then
    unchanged. Raises `RestoreUnfinished` if only step 5 fails, and `TenantUnfinished` if an operation on the tenant has
    to be recovered.

    1. record the operation; 2. build a scratch database from the source (`tenants.restore.build`); 3. mark the runs
    that were running in the restored state, or that continued in the live one, as failed; 4. set a restore point on the
    server, close the tenant, swap the databases, and open the tenant again (`tenants.restore.swap`); 5. bring back
    files, and list the differences (`tenants.restore.reconcile`).
    """
    with workflow.exclusive_access(tenant_id) as tenant:
        file = _file(tenant, backup_file, age_identity_file) if backup_file else None
        with ServerSession(tenant.require_server(), database_prefix(), work_of(tenant)) as server_session:
            server_session.require_needed()
            if not stop_runs:
                workflow.require_idle(tenant, server_session)
            given = file.given(with_storage=True) if file else None
            row = workflow.begin(tenant, KIND, file.description if file else described(to_time), given=given)
            begun = time.monotonic()
            with workflow.undone_on_failure(server_session, tenant, row):
                if file is None:
                    on_progress(Progress(tenant.id, "recover"))
                    with state_at(server_session.server, row.live, to_time, work=str(row.pk)) as source:
                        built = workflow.build_for(tenant, server_session, source, row, on_progress)
                else:
                    built = workflow.build_for(tenant, server_session, file, row, on_progress)
                    holding_proven(file.given(with_storage=True), tenant.identity)
                _settle(tenant, server_session, row, built, on_progress)
            unavailable_ms = workflow.replace(tenant, server_session, row, on_progress)
            return workflow.finish(
                tenant,
                server_session,
                row,
                on_progress,
                age_identity_file=age_identity_file,
                begun=begun,
                unavailable_ms=unavailable_ms,
            )


def tenant_restore_check(
    *,
    tenant_id: str,
    backup_file: str | None = None,
    to_time: datetime | None = None,
    undo: bool = False,
    age_identity_file: str | None = None,
) -> None:
    """Check, without reading backup data, most of what would keep a restore or an undo from starting.

    Raises `UnknownTenant`, `TenantNotActive`, `TenantUnfinished`, `FleetUnfinished` or, with any other reason,
    `RestoreRefused`. Call this before asking for confirmation.
    """
    require_finished(tenant_id)
    tenant = tenant_get(tenant_id)
    if tenant.status not in workflow.RESTORABLE:
        raise TenantNotActive(tenant.id, tenant.status)
    try:
        age_identity_require(age_identity_file)
        server = tenant.require_server()
        if backup_file is not None:
            _file(tenant, backup_file, age_identity_file)
        elif undo:
            replaced_last(tenant.id)
        else:
            require_reachable(server, Target(time=to_time))
    except RestoreRefused:
        raise
    except SeoGenError as error:
        raise RestoreRefused(tenant.id, error.message, hint=error.hint, code=error.code) from error


def _file(tenant: Tenant, backup_file: str, age_identity_file: str | None) -> BackupFile:
    file = backup_find(backup_file, age_identity_file)
    if file.manifest and file.manifest.tenant_id != tenant.id:
        raise TenantError(
            _("The backup belongs to tenant %(other)s.") % {"other": file.manifest.tenant_id},
            code="backup_of_another_tenant",
        )
    return file


def _settle(tenant: Tenant, server_session: ServerSession, row: Restore, built: Built, on_progress: OnProgress) -> None:
    """Mark runs that cannot continue in the restored state as failed; analyze the tables; save the results so far."""
    on_progress(Progress(tenant.id, "settle"))
    number = Restore.objects.using(CONTROL).filter(tenant_id=tenant.id).count()
    with owner_connection(server_session.server, row.scratch, work_of(tenant)) as connection:
        failed = contents().settle(
            connection.alias,
            reason=_("The tenant was restored to a state in which this run had not finished."),
            number=number,
            replaced=workflow.statuses_of(tenant, server_session, contents().waiting(connection.alias)),
        )
        with connection.cursor() as cursor:
            # A dump contains no statistics; without them, the first queries on a large tenant would get bad plans.
            cursor.execute("ANALYZE")
    workflow.note_built(
        row,
        version=built.version,
        drift=built.drift,
        migrations=built.migrations,
        failed_runs=failed,
        rows=built.census.rows,
    )
