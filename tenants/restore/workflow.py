"""Shared by restore and undo: the record, the swap, and the recovery of an interrupted operation.

The phase (`tenants.models.RestorePhase`) says what is durable. `building`: nothing has been replaced, so recovery
undoes the operation. `swapping`: the names of the databases show whether the swap happened. `serving`: the swap
happened, so recovery finishes the operation.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

from django.conf import settings
from django.db import OperationalError, connections, transaction
from django.db.models.functions import Now
from django.db.utils import Error
from django.utils import timezone
from django.utils.translation import gettext as _

from audit.models import AuditLog
from config.base.databases import CONTROL
from config.base.errors import SeoGenError
from tenants.app_hooks import contents
from tenants.errors import (
    RestoreRefused,
    RestoreUnfinished,
    TenantNotActive,
    TenantUnfinished,
    TenantWithoutServer,
    disk_failures_told,
    failure_reason,
    reason_of,
)
from tenants.files.files_read import RESTORE, Given, Reader, reading_begin
from tenants.fleet.batch import fleet_shared
from tenants.models import (
    OperationStatus,
    Restore,
    RestorePhase,
    Tenant,
    TenantOperation,
    TenantStatus,
    database_prefix,
)
from tenants.naming import work_name
from tenants.operations import audit, operation_begin, operation_end, tenant_lock
from tenants.restore import swap
from tenants.restore.build import Built, Expected, build
from tenants.restore.reconcile import reconcile
from tenants.restore.scratch_database import Scratch, kept_name, scratch_name
from tenants.restore.sources import Source
from tenants.routing.owner_connection import owner_connection
from tenants.schema.inspection import database_of
from tenants.schema.releases import release
from tenants.selectors import require_finished, tenant_get
from tenants.servers.restore_points import restore_point
from tenants.servers.session import ServerSession
from tenants.types import OnProgress, Progress, RestoreReport

# Kinds of operations.
KIND = "restore"
UNDO = "restore undo"
RESTORABLE = (TenantStatus.ACTIVE, TenantStatus.SUSPENDED)


def work_of(tenant: Tenant) -> str:
    """Return the name of the restore's work on the server, by which a killed process's sessions are recognized."""
    return work_name(KIND, tenant.identity)


@contextmanager
def exclusive_access(tenant_id: str) -> Iterator[Tenant]:
    """Lock the tenant, keep batches from starting, and yield the tenant.

    A `SeoGenError` in the block becomes a `RestoreRefused`, unless it is one of those that name the tenant already.
    """
    # A migration or tenant creation either ends soon or was interrupted: in an emergency, don't wait long for it.
    with fleet_shared(wait_s=settings.OPERATION_WAIT_S), tenant_lock(tenant_id):
        require_finished(tenant_id)
        tenant = tenant_get(tenant_id)
        if tenant.status not in RESTORABLE:
            raise TenantNotActive(tenant.id, tenant.status)
        try:
            with disk_failures_told():
                yield tenant
        except (RestoreRefused, RestoreUnfinished, TenantUnfinished, TenantWithoutServer):
            raise
        except SeoGenError as error:
            raise RestoreRefused(tenant_id, error.message, hint=error.hint, code=error.code) from error


def require_idle(tenant: Tenant, server_session: ServerSession) -> None:
    """Raise `RestoreRefused` if runs are in progress; a database that is gone or refuses connections counts as idle."""
    runs: list[str] = []
    if server_session.database_exists(database_of(tenant)):
        with (
            suppress(Error),
            owner_connection(server_session.server, database_of(tenant), work_of(tenant)) as connection,
        ):
            runs = contents().at_work(connection.alias)
    if runs:
        raise RestoreRefused(
            tenant.id,
            _("Runs are still in progress: %(runs)s.") % {"runs": ", ".join(runs[:5]) + ", …" * (len(runs) > 5)},
            hint=_("Wait for them, or pass --stop-runs. The tenant's database is unchanged."),
            page_hint=_(
                "Wait for them, or request it again and switch on “Continue even if runs are in progress”. The tenant's"
                " database is unchanged."
            ),
            code="runs_at_work",
        )


def statuses_of(tenant: Tenant, server_session: ServerSession, runs: Collection[str]) -> dict[str, str]:
    """Return {run id: status} for the `runs` that the live database has; {} if it is gone or refuses connections."""
    if server_session.database_exists(database_of(tenant)):
        with (
            suppress(Error),
            owner_connection(server_session.server, database_of(tenant), work_of(tenant)) as connection,
        ):
            return contents().statuses(connection.alias, runs)
    return {}


def begin(tenant: Tenant, kind: str, source: str, *, scratch: str = "", given: Given | None = None) -> Restore:
    """Record a restore or an undo before it starts, with the names of its databases and the files that it reads.

    Returns the record.
    """
    with transaction.atomic(using=CONTROL):
        operation = operation_begin(tenant_id=tenant.id, kind=kind)
        row = Restore.objects.using(CONTROL).create(
            operation=operation,
            tenant_id=tenant.id,
            source=source,
            scratch=scratch or scratch_name(operation.pk),
            live=database_of(tenant),
            kept=kept_name(operation.pk),
        )
        if given is not None:
            reading_begin(given, purpose=RESTORE, readers=[Reader(tenant.id, tenant.identity)])
        audit(row, "tenant.restore", source=row.source, kept=row.kept)
    return row


def build_for(
    tenant: Tenant, server_session: ServerSession, source: Source, row: Restore, on_progress: OnProgress
) -> Built:
    """Build the tenant's database from the source, in the scratch database named in the record."""
    return build(
        Scratch(server_session, row.scratch, row.scratch),
        source,
        Expected.of(tenant, source),
        release(),
        work=work_of(tenant),
        on_step=lambda step: on_progress(Progress(tenant.id, step)),
    )


def note_built(row: Restore, **report: object) -> None:
    """Save the results so far: what follows the swap needs them, even if `recover` carries it out."""
    row.report = report
    row.save(using=CONTROL, update_fields=["report"])


@contextmanager
def undone_on_failure(server_session: ServerSession, tenant: Tenant, row: Restore) -> Iterator[None]:
    try:
        yield
    except BaseException as failure:
        try:
            _undo(server_session, tenant, row, failure_reason(failure))
        except Exception as error:
            raise TenantUnfinished(tenant.id, row.operation.kind) from error
        _raise_refused(tenant, failure)
        raise


def _raise_refused(tenant: Tenant, failure: BaseException) -> None:
    """Raise `RestoreRefused` if a database was locked or could not be reached; the operation must have been undone."""
    if isinstance(failure, OperationalError):
        raise RestoreRefused(tenant.id, reason_of(failure)) from failure


def replace(tenant: Tenant, server_session: ServerSession, row: Restore, on_progress: OnProgress) -> int:
    """Set a restore point on the server, close the tenant, swap, reopen it; return how long it was closed, in ms.

    If it fails before the rename, the operation is undone, and the error is raised. If it fails after the rename, or if
    undoing fails too, raises `TenantUnfinished`: `recover` has to finish or undo the operation.
    """
    with undone_on_failure(server_session, tenant, row):
        restore_point(server_session.server, reason=KIND, tenant_id=tenant.id)
        on_progress(Progress(tenant.id, "close"))
    closed = time.perf_counter()
    try:
        swap.close(tenant, row)
        on_progress(Progress(tenant.id, "swap"))
        heads = swap.exchange(server_session, tenant, row, work=work_of(tenant))
        on_progress(Progress(tenant.id, "open"))
        _serve(server_session, tenant, row, heads)
    except BaseException as failure:
        # The connection itself may be what failed.
        connections[CONTROL].close()
        try:
            happened = swap.is_swapped(server_session, row)
            if not happened:
                _undo(server_session, tenant, row, failure_reason(failure))
        except Exception as error:
            raise TenantUnfinished(tenant.id, row.operation.kind) from error
        if happened:
            raise TenantUnfinished(tenant.id, row.operation.kind) from failure
        _raise_refused(tenant, failure)
        raise
    return round((time.perf_counter() - closed) * 1000)


def finish(
    tenant: Tenant,
    server_session: ServerSession,
    row: Restore,
    on_progress: OnProgress,
    *,
    age_identity_file: str | None = None,
    begun: float | None = None,
    unavailable_ms: int | None = None,
) -> RestoreReport:
    """Finish after the swap: restore files, list the differences, complete the record; return the report.

    Raises `RestoreUnfinished` if `reconcile` fails; the tenant uses its new database even then.
    """
    on_progress(Progress(tenant.id, "reconcile"))
    try:
        found = reconcile(tenant, server_session.server, row, age_identity_file=age_identity_file)
    except SeoGenError as error:
        raise RestoreUnfinished(tenant.id, error.message) from error
    except OperationalError as error:
        raise RestoreUnfinished(tenant.id, reason_of(error)) from error
    report = RestoreReport(
        tenant_id=tenant.id,
        operation_id=row.pk,
        source=row.source,
        kept_until=row.kept_until,
        unavailable_ms=unavailable_ms,
        seconds=round(time.monotonic() - begun, 1) if begun else None,
        **{**(row.report or {}), **found},
    )
    with transaction.atomic(using=CONTROL):
        row.phase, row.report = RestorePhase.DONE, report.document()
        row.save(using=CONTROL, update_fields=["phase", "report"])
        operation_end(row.operation, OperationStatus.COMPLETED)
    on_progress(Progress(tenant.id, "done"))
    return report


def recover(operation: TenantOperation, on_progress: OnProgress, age_identity_file: str | None) -> None:
    """Finish an interrupted restore or undo; raise `RestoreRefused` if it had to be undone instead."""
    row = Restore.objects.using(CONTROL).select_related("operation").get(pk=operation.pk)
    tenant = tenant_get(operation.tenant_id)
    with ServerSession(tenant.require_server(), database_prefix(), work_of(tenant)) as server_session:
        server_session.end_predecessors()
        if row.phase == RestorePhase.SWAPPING and swap.is_swapped(server_session, row):
            _serve(server_session, tenant, row, _heads(server_session, tenant, row))
        if row.phase == RestorePhase.SERVING:
            finish(tenant, server_session, row, on_progress, age_identity_file=age_identity_file)
            return
        _undo(server_session, tenant, row, _("It was interrupted and undone."))
    raise RestoreRefused(tenant.id, _("The operation was interrupted before the databases were swapped."))


def _undo(server_session: ServerSession, tenant: Tenant, row: Restore, reason: str) -> None:
    """Undo what has replaced nothing: drop a restore's scratch database, reopen the tenant if closed, note the end."""
    if row.operation.kind == KIND:
        Scratch(server_session, row.scratch, row.scratch).drop()
    if row.phase == RestorePhase.SWAPPING and server_session.database_exists(row.live):
        swap.reopen(server_session, tenant)
    with transaction.atomic(using=CONTROL):
        swap.back_to_work(tenant)
        Restore.objects.using(CONTROL).filter(pk=row.pk).update(phase=RestorePhase.DONE)
        operation_end(row.operation, OperationStatus.UNDONE, error=reason)
        # The entry omits the reason, which may quote database contents.
        audit(row, "tenant.restore.undo", source=row.source, kept=row.kept)


def _serve(server_session: ServerSession, tenant: Tenant, row: Restore, heads: dict[str, object]) -> None:
    """Durably open the tenant on its new database; set how long the replaced database, if any, is kept."""
    built = row.report or {}
    kept = server_session.database_exists(row.kept)
    with transaction.atomic(using=CONTROL):
        swap.back_to_work(
            tenant,
            schema_version=built["version"],
            schema_drift=built["drift"],
            schema_fingerprint="",
            schema_stamp="",
            schema_checked_at=Now(),
        )
        # An undo turns the kept database into the live one, so the restore that kept it no longer has a kept database.
        Restore.objects.using(CONTROL).filter(tenant_id=tenant.id, kept=row.scratch).update(kept_until=None)
        row.phase = RestorePhase.SERVING
        row.kept_until = timezone.now() + timedelta(days=settings.RESTORE_UNDO_DAYS) if kept else None
        row.save(using=CONTROL, update_fields=["phase", "kept_until"])
        audit(row, "tenant.restore.complete", source=row.source, kept=row.kept, **heads)


def _heads(server_session: ServerSession, tenant: Tenant, row: Restore) -> dict[str, object]:
    """Read both audit chains' heads back from the restored database's audit log."""
    with owner_connection(server_session.server, row.live, work_of(tenant)) as connection:
        entries = AuditLog.objects.using(connection.alias).filter(action="tenant.restore")
        details = entries.order_by("-sequence").values_list("details", flat=True).first() or {}
    return {name: details.get(name) for name in ("replaced", "restored")}
