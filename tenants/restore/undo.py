"""Put back the database that the last restore replaced."""

from __future__ import annotations

import time

from django.utils.translation import gettext as _

from config.base.databases import CONTROL
from tenants.errors import RestoreRefused
from tenants.models import Restore, Tenant, database_prefix
from tenants.restore import workflow
from tenants.restore.build import bring_forward
from tenants.restore.workflow import UNDO, work_of
from tenants.routing.owner_connection import owner_connection
from tenants.schema.reference import history_read
from tenants.schema.releases import release
from tenants.servers.session import ServerSession
from tenants.types import OnProgress, Progress, RestoreReport, ignore_progress


def tenant_restore_undo(
    *, tenant_id: str, stop_runs: bool = False, on_progress: OnProgress = ignore_progress
) -> RestoreReport:
    """Migrate the kept database if necessary, and swap it back in; keep the one that it replaces, to undo the undo.

    Runs in progress block the undo unless `stop_runs` is set; the undo leaves their state as it is in both databases.

    Raises what `tenant_restore` raises; `RestoreRefused` also if no replaced database is kept.
    """
    with workflow.exclusive_access(tenant_id) as tenant:
        last = replaced_last(tenant_id)
        with ServerSession(tenant.require_server(), database_prefix(), work_of(tenant)) as server_session:
            server_session.require_needed()
            if not stop_runs:
                workflow.require_idle(tenant, server_session)
            source = _("the database replaced by the operation of %(time)s") % {
                "time": last.operation.started_at.isoformat()
            }
            row = workflow.begin(tenant, UNDO, source, scratch=last.kept)
            begun = time.monotonic()
            with workflow.undone_on_failure(server_session, tenant, row):
                on_progress(Progress(tenant.id, "migrate"))
                _bring_forward(tenant, server_session, row)
            unavailable_ms = workflow.replace(tenant, server_session, row, on_progress)
            return workflow.finish(tenant, server_session, row, on_progress, begun=begun, unavailable_ms=unavailable_ms)


def replaced_last(tenant_id: str) -> Restore:
    """Return the restore, or undo, that can be undone; raise `RestoreRefused` if there is none."""
    kept = Restore.objects.using(CONTROL).filter(tenant_id=tenant_id, kept_until__isnull=False)
    last = kept.select_related("operation").first()
    if last is None:
        raise RestoreRefused(
            tenant_id, _("There is no restore to undo: no replaced database is kept."), code="restore_undo_none"
        )
    return last


def _bring_forward(tenant: Tenant, server_session: ServerSession, row: Restore) -> None:
    """Migrate the kept database to this code's version, unless it has the fleet's; record the result."""
    work, code = work_of(tenant), release()
    with owner_connection(server_session.server, row.scratch, work) as connection:
        history = history_read(connection)
    migrations = bring_forward(server_session, row.scratch, history, code, tenant.schema_version, work=work)
    version = code.version if migrations else code.version_of(history)
    workflow.note_built(row, version=version, drift=[], migrations=migrations, failed_runs=[], rows={})
