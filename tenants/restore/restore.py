"""Restore a tenant from a backup or to a moment: load beside the live database, prove, swap by rename.

The tenant is closed for the swap alone (`tenants.restore.swap`). Whatever fails or is cut off before it leaves the live
database as it was; what comes after it can only be finished. docs/adr/0009-backup-and-restore.md tells why.
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
    """Replace the tenant's database by what the backup holds, or by its own state at `to_time` (aware); keep the old.

    Exactly one of the two is given. Runs at work are in the way unless `stop_runs` is set; they fail then.
    Raises `UnknownTenant`, `TenantNotActive`, `TenantBusy`, `FleetBusy`, `TenantUnfinished`, or `RestoreRefused` with
    the reason; the live database is as it was then.

    1. record; 2. build from the source, in a scratch database, and prove it; 3. settle what was at work in it;
    4. close the tenant, swap, open it (`tenants.restore.swap`); 5. bring back files, and list what differs from before.
    """
    with workflow.exclusive_access(tenant_id, KIND) as tenant:
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
    """Raise what `tenant_restore`, or `tenant_restore_undo`, would refuse before it begins; change and read nothing.

    For whoever is about to ask whether it is meant: there is no use in consenting to what cannot be done.
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
            _("The backup is of tenant %(other)s.") % {"other": file.manifest.tenant_id},
            code="backup_of_another_tenant",
        )
    return file


def _settle(tenant: Tenant, server_session: ServerSession, row: Restore, built: Built, on_progress: OnProgress) -> None:
    """Fail what was at work in the restored state, and note what was built: `recover` may have to go on from here."""
    on_progress(Progress(tenant.id, "settle"))
    number = Restore.objects.using(CONTROL).filter(tenant_id=tenant.id).count()
    with owner_connection(server_session.server, row.scratch, work_of(tenant)) as connection:
        failed = contents().settle(
            connection.alias,
            reason=_("The tenant was restored to a moment at which this run had not ended."),
            number=number,
            replaced=workflow.statuses_of(tenant, server_session, contents().waiting(connection.alias)),
        )
        with connection.cursor() as cursor:
            # A dump has no statistics; without them the first questions of a large tenant take the longest way.
            cursor.execute("ANALYZE")
    workflow.note_built(
        row,
        version=built.version,
        drift=built.drift,
        migrations=built.migrations,
        failed_runs=failed,
        rows=built.census.rows,
    )
