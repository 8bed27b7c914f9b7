"""Erase a tenant in steps. Each step is recorded when it is done; until then, it can be repeated.

1. record the deletion, and close the tenant in the control database; 2. lock its role out of its database; 3. set a
restore point in the server's WAL; 4. copy the tenant's audit log into the control database's archive; 5. list what
exists; 6. erase its storage; 7. erase backups, exports, and supplied files in locations of backups; 8. delete
messages, cache keys, and the control database's summaries of its runs and daily costs; 9. drop databases; 10. drop
roles; 11. clean up once more, write the certificate, leave a tombstone; 12. rewrite the control database's tables that
named the tenant, unless they are in use. From step 1 on, no new work on the tenant can begin, and there is no way back:
an interrupted deletion can only be continued. docs/adr/0012-erasure.md explains the order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from django.db import connections, transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now
from django.db.utils import Error
from django.utils import timezone
from django.utils.translation import gettext as _

from audit.control.models import AuditArchive, ControlAuditLog
from audit.errors import ArchiveDiffers
from audit.log.archive import log_archive
from audit.log.chain_check import chain_head
from audit.log.entries import record
from audit.log.file_format import audit_lines
from config.base.approvals import DELETE, require_approval
from config.base.databases import CONTROL
from config.base.errors import SeoGenError, joined
from tenants.app_hooks import contents
from tenants.backup import backup_files
from tenants.erasure.cache import cache_erase
from tenants.erasure.certificate import certificate_of
from tenants.erasure.inventory import (
    SCRATCH,
    backups_held,
    backups_of,
    database_names,
    databases_held,
    file_digest,
    files_held,
    rows_held,
    storage_held,
)
from tenants.erasure_ledger import digest_of
from tenants.errors import DeletionUnfinished, reason_of
from tenants.files import tenant_storage
from tenants.files.locations import PlaceError, place_at
from tenants.models import (
    Backup,
    BackupStatus,
    BatchTenant,
    Erasure,
    ErasurePhase,
    MigrationBatch,
    OperationRequest,
    OperationStatus,
    Restore,
    Tenant,
    TenantOperation,
    TenantStatus,
    database_prefix,
)
from tenants.naming import work_name
from tenants.operations import audit, copies_barred, operation_begin, operation_end
from tenants.pitr.dead_rows import superseded_remove
from tenants.pitr.recover_server import recoveries_remove
from tenants.restore.scratch_database import drop_throwaways
from tenants.routing.held_transaction import held_open
from tenants.routing.owner_connection import owner_connection
from tenants.servers.lock_holders import DatabaseLocked
from tenants.servers.restore_points import restore_point
from tenants.servers.session import ServerSession, parse_location
from tenants.types import OnProgress, Progress

KIND = "delete"
# Losses that an operator may accept: a broken or missing audit log; backups that cannot be removed.
AUDIT_LOSS = "audit loss"
LOST_BACKUPS = "lost backups"
# How long open transactions may take to end after the tenant is closed. Workers' transactions never span an LLM call.
GRACE_S = 10.0

Found = dict[str, Any]
Step = Callable[[ServerSession, Tenant, Erasure], Found]


def work_of(tenant: Tenant) -> str:
    """Return the name of the deletion's work on the server, by which a killed process's sessions are recognized."""
    return work_name(KIND, tenant.identity)


def begin(tenant: Tenant, accepts: Sequence[str]) -> Erasure:
    """Durably record the deletion and close the tenant; return the record."""
    assert tenant.server is not None  # checked by `tenant_delete`
    location = parse_location(tenant.database_url)
    with transaction.atomic(using=CONTROL):
        require_approval(DELETE, tenant.id, approved_arguments(accepts))
        operation = operation_begin(tenant_id=tenant.id, kind=KIND)
        row = Erasure.objects.using(CONTROL).create(
            operation=operation,
            tenant_id=tenant.id,
            identity=tenant.identity,
            chain_identity=tenant.chain_identity or tenant.identity,
            server=tenant.server.name,
            database=location.database,
            role=location.role,
            accepts=list(accepts),
        )
        Tenant.objects.using(CONTROL).filter(pk=tenant.pk).update(
            status=TenantStatus.DELETING,
            is_active=False,
            connection_version=F("connection_version") + 1,
            work_seen_at=None,
        )
        audit(row, "tenant.delete", identity=str(row.identity), accepts=list(accepts))
    return row


def approved_arguments(accepts: Sequence[str]) -> dict[str, Any]:
    """Return what a second person approves in addition to the tenant, if the settings demand an approval."""
    return {"accept_audit_loss": AUDIT_LOSS in accepts, "accept_lost_backups": LOST_BACKUPS in accepts}


def accept(row: Erasure, accepts: Sequence[str]) -> None:
    """Record what else the operator accepts, so that a deletion that was stopped can continue."""
    new = sorted({*row.accepts, *accepts})
    if new == row.accepts:
        return
    row.accepts = new
    with transaction.atomic(using=CONTROL):
        require_approval(DELETE, row.tenant_id, approved_arguments(new))
        row.save(using=CONTROL, update_fields=["accepts"])
        audit(row, "tenant.delete", identity=str(row.identity), accepts=new)


def carry_on(server_session: ServerSession, tenant: Tenant, row: Erasure, on_progress: OnProgress) -> None:
    """Run the remaining steps. Call it inside `failures_as_unfinished`."""
    done = ErasurePhase.values.index(row.phase)
    _require_same_server(server_session, row)
    for name, phase, step in STEPS:
        if ErasurePhase.values.index(phase) <= done:
            continue
        on_progress(Progress(tenant.id, name))
        _advance(row, phase, step(server_session, tenant, row))
    on_progress(Progress(tenant.id, "certificate"))
    _finish(tenant, row)
    superseded_remove()
    on_progress(Progress(tenant.id, "done"))


@contextmanager
def failures_as_unfinished(tenant_id: str) -> Iterator[None]:
    """Turn a `SeoGenError` or `DatabaseLocked` in the block into `DeletionUnfinished`, with the same reason and hint.

    If it has no hint, add one on how to continue. A `DeletionUnfinished` is raised unchanged.
    """
    try:
        yield
    except DeletionUnfinished:
        raise
    except SeoGenError as error:
        raise DeletionUnfinished(tenant_id, error.message, hint=error.hint) from error
    except DatabaseLocked as error:
        raise DeletionUnfinished(tenant_id, str(error)) from error


def recover(operation: TenantOperation, on_progress: OnProgress, _identity_file: str | None) -> None:
    """Continue an interrupted deletion."""
    row = Erasure.objects.using(CONTROL).select_related("operation").get(pk=operation.pk)
    tenant = Tenant.objects.using(CONTROL).select_related("server").get(pk=row.tenant_id)
    with (
        copies_barred(tenant.id),
        failures_as_unfinished(tenant.id),
        ServerSession(tenant.require_server(), database_prefix(), work_of(tenant)) as server_session,
    ):
        server_session.end_predecessors()
        carry_on(server_session, tenant, row, on_progress)


# -- the steps ---------------------------------------------------------------------------------------------------------


def _close(server_session: ServerSession, _tenant: Tenant, row: Erasure) -> Found:
    """Lock the tenant's role out, but give open transactions `GRACE_S` to finish."""
    server_session.fence(row.database, row.role, GRACE_S)
    return {}


def _mark(server_session: ServerSession, tenant: Tenant, _row: Erasure) -> Found:
    point = restore_point(server_session.server, reason=KIND, tenant_id=tenant.id)
    return {
        "restore_point": point.name if point else None,
        "lsn": point.lsn if point else None,
        "system": server_session.facts().system_identifier,
    }


def _require_same_server(server_session: ServerSession, row: Erasure) -> None:
    """Refuse to continue on a different server: we would certify that a database is gone without having checked.

    An upgraded server has a new system identifier, but it still has the database and is therefore accepted.
    """
    begun = row.found.get(ErasurePhase.MARKED, {}).get("system")
    over = ErasurePhase.values.index(row.phase) >= ErasurePhase.values.index(ErasurePhase.CREDENTIALS)
    if begun is None or over or server_session.database_exists(row.database):
        return
    if server_session.facts().system_identifier != begun:
        raise DeletionUnfinished(
            row.tenant_id,
            _("The server that was reached is not the one on which this deletion started."),
            hint=_("Correct the server's address in the admin, then run the command again."),
            page_hint=_(
                "Correct the server's address under “Database servers”, then press “Recover” on the operation's page."
            ),
            code="tenant_on_another_server",
        )


def _archive(server_session: ServerSession, tenant: Tenant, row: Erasure) -> Found:
    archive = AuditArchive.objects.using(CONTROL).filter(identity=row.identity).first()
    if archive is None and not server_session.database_exists(row.database):
        _require_accepted(row, AUDIT_LOSS, _("Its database is gone, and its audit log with it."))
    elif archive is None and (problem := _log_problem(server_session, tenant, row)):
        _require_accepted(row, AUDIT_LOSS, problem)
    elif archive is None:
        try:
            archive = _copy_log(server_session, tenant, row)
        except ArchiveDiffers as error:
            # For example, because someone inserted entries beforehand; entries cannot be removed.
            _require_accepted(row, AUDIT_LOSS, error.message)
    elif not _has_log_entry(archive):
        _require_accepted(row, AUDIT_LOSS, _("The control log has no entry for the archived copy of its audit log."))
        archive = None
    if archive is None:
        return {"entries": None, "first_bad": None, "head_hash": None, "digest": None}
    return {
        "entries": archive.entries,
        "first_bad": archive.first_bad,
        "head_hash": archive.head_hash,
        "digest": archive.digest,
    }


def _has_log_entry(archive: AuditArchive) -> bool:
    """Return whether an earlier attempt made the archive: if so, it committed a log entry in the same transaction."""
    made = ControlAuditLog.objects.using(CONTROL).filter(
        action="audit.archive", resource_type="tenant", resource_id=archive.tenant_id
    )
    return made.filter(details__identity=str(archive.identity), details__digest=archive.digest).exists()


def _log_problem(server_session: ServerSession, tenant: Tenant, row: Erasure) -> str:
    """Return why the tenant's audit log cannot be read, or "".

    The log is first read without being copied: if copying it then fails, the control database is at fault, and no loss
    may be accepted. Nor may a loss be accepted while the log is only out of reach: raises `DatabaseLocked` if a lock
    times out, or `ServerError` if the server does not answer.
    """
    try:
        with owner_connection(server_session.server, row.database, work_of(tenant)) as source:
            deque(audit_lines(source), maxlen=0)
            chain_head(source)
    except DatabaseLocked:
        raise
    except Error as error:
        server_session.facts()
        return _("Its audit log cannot be read: %(reason)s.") % {"reason": reason_of(error)}
    return ""


def _copy_log(server_session: ServerSession, tenant: Tenant, row: Erasure) -> AuditArchive:
    with (
        owner_connection(server_session.server, row.database, work_of(tenant)) as source,
        transaction.atomic(using=CONTROL),
        held_open(connections[CONTROL]),
    ):
        archive = log_archive(source, tenant_id=tenant.id, identity=row.identity, chain_identity=row.chain_identity)
        if archive.first_bad is not None:
            _require_accepted(row, AUDIT_LOSS, broken_log(archive.first_bad))
        record(
            using=CONTROL,
            action="audit.archive",
            resource_type="tenant",
            resource_id=tenant.id,
            details={
                "identity": str(row.identity),
                "entries": archive.entries,
                "head": archive.head_hash,
                "digest": archive.digest,
                "first_bad": archive.first_bad,
            },
        )
    return archive


def broken_log(number: int) -> str:
    return _("The audit log is broken at entry %(number)d.") % {"number": number}


def _list(server_session: ServerSession, tenant: Tenant, row: Erasure) -> Found:
    """List everything before anything is removed, so that an interruption does not change the certificate."""
    return {
        "databases": [asdict(one) for one in databases_held(server_session, tenant.id, row.database)],
        "rows": rows_held(server_session, row.database),
        "place": tenant_storage.place_of(tenant.id),
        "storage": asdict(storage_held(tenant.id)),
        "backups": [asdict(one) for one in backups_held(tenant.id)],
        "files": [asdict(one) for one in files_held(tenant.id, tenant.identity)],
    }


def _erase_storage(_server_session: ServerSession, tenant: Tenant, _row: Erasure) -> Found:
    tenant_storage.erase_all(tenant.id)
    return {}


def _erase_backups(_server_session: ServerSession, tenant: Tenant, row: Erasure) -> Found:
    """Erase every backup that can be erased, and mark it as removed.

    Also erase the listed files that are to be erased with the tenant (`HeldFile.goes`), unless they have changed since
    they were read. At the end, raises `DeletionUnfinished` if something could not be erased and that was not accepted.
    """
    problems: dict[str, str] = {}
    changed: list[str] = []
    for backup in backups_of(tenant):
        try:
            backup_files.erase(backup)
        except PlaceError as error:
            problems[str(backup.pk)] = error.message
        else:
            _note_erased(backup)
    # If an older release made the list, it has no "files".
    for file in row.found[ErasurePhase.LISTED].get("files", []):
        if not file["goes"]:
            continue
        try:
            if not _erase_file(row, file):
                changed.append(file["file"])
        except PlaceError as error:
            problems[file["file"]] = error.message
    if problems:
        _require_accepted(row, LOST_BACKUPS, joined(*problems.values()))
    return {"remaining": sorted(problems), "changed": changed}


def _erase_file(row: Erasure, file: Found) -> bool:
    """Permanently remove a supplied file; return False if another file is in its place now."""
    place = place_at(file["place"])
    found = file_digest(place, file["name"])
    if found not in (None, file["sha256"]):
        return False
    with transaction.atomic(using=CONTROL):
        record(
            using=CONTROL,
            action="file.remove",
            resource_type="tenant",
            resource_id=row.tenant_id,
            details={"place": file["place"], "file": file["name"], "sha256": file["sha256"]},
        )
    # Erase even if the file itself is gone, since a bucket may still have old versions of it.
    place.erase(file["name"])
    return True


def _note_erased(backup: Backup) -> None:
    with transaction.atomic(using=CONTROL):
        Backup.objects.using(CONTROL).filter(pk=backup.pk).update(status=BackupStatus.REMOVED, removed_at=Now())
        record(
            using=CONTROL,
            action="backup.remove",
            resource_type="tenant",
            resource_id=backup.tenant_id,
            details={"backup": str(backup.pk), "place": backup.place, "file": backup.name},
        )


def _erase_messages(_server_session: ServerSession, tenant: Tenant, _row: Erasure) -> Found:
    return {
        "messages": contents().erase_messages(tenant.id),
        "cache_keys": cache_erase(tenant.id),
        "run_summaries": contents().erase_summaries(tenant.id),
    }


def _drop_databases(server_session: ServerSession, tenant: Tenant, row: Erasure) -> Found:
    """Drop all the tenant's databases, and what killed drills, verifications and server recoveries left behind."""
    for name in database_names(tenant.id, row.database):
        # A prepared transaction would block the drop.
        server_session.roll_back_prepared(name)
        server_session.drop_database(name)
    drop_throwaways()
    recoveries_remove()
    lsn, _moment = server_session.heartbeat()
    # The next WAL segment contains nothing from these databases.
    return {"lsn": lsn, "segment": server_session.end_segment()}


def _drop_roles(server_session: ServerSession, tenant: Tenant, row: Erasure) -> Found:
    scratch = [name for name, kind in database_names(tenant.id, row.database).items() if kind == SCRATCH]
    for name in [row.role, *scratch]:
        server_session.drop_role(name)
    return {"roles": [row.role]}


# (name in progress messages, phase that is recorded when the step is done, function)
STEPS: tuple[tuple[str, ErasurePhase, Step], ...] = (
    ("close", ErasurePhase.CLOSED, _close),
    ("mark", ErasurePhase.MARKED, _mark),
    ("archive", ErasurePhase.ARCHIVED, _archive),
    ("list", ErasurePhase.LISTED, _list),
    ("storage", ErasurePhase.STORAGE, _erase_storage),
    ("backups", ErasurePhase.BACKUPS, _erase_backups),
    ("messages", ErasurePhase.MESSAGES, _erase_messages),
    ("databases", ErasurePhase.DATABASES, _drop_databases),
    ("roles", ErasurePhase.CREDENTIALS, _drop_roles),
)


def _finish(tenant: Tenant, row: Erasure) -> None:
    """Remove what a worker may have written while it was being locked out; then write the certificate and tombstone."""
    tenant_storage.erase_all(tenant.id)
    contents().erase_messages(tenant.id)
    completed_at = timezone.now()
    with transaction.atomic(using=CONTROL):
        row.certificate = certificate_of(row, completed_at)
        row.digest = digest_of(row.certificate)
        row.phase, row.completed_at = ErasurePhase.DONE, completed_at
        row.save(using=CONTROL, update_fields=["certificate", "digest", "phase", "completed_at"])
        _forget(tenant)
        operation_end(row.operation, OperationStatus.COMPLETED)
        row.operation.refresh_from_db(using=CONTROL)
        audit(row, "tenant.delete.complete", certificate=row.digest, identity=str(row.identity))


def _forget(tenant: Tenant) -> None:
    """Leave a tombstone, and clear what may quote the tenant's contents in other rows of the control database."""
    Tenant.objects.using(CONTROL).filter(pk=tenant.pk).update(
        status=TenantStatus.DELETED,
        name=tenant.id,
        database_url="",
        server=None,
        work_seen_at=None,
        schema_version="",
        schema_drift=None,
        schema_fingerprint="",
        schema_stamp="",
    )
    Backup.objects.using(CONTROL).filter(tenant_id=tenant.id).update(manifest=None, error="", verify_error="")
    Restore.objects.using(CONTROL).filter(tenant_id=tenant.id).update(report=None, kept_until=None)
    TenantOperation.objects.using(CONTROL).filter(tenant_id=tenant.id).update(error="")
    # A request about several tenants is found by the id in its error. Another tenant's id may contain this tenant's id.
    named = rf"(^|[^a-z0-9-]){tenant.id}($|[^a-z0-9-])"
    requests = OperationRequest.objects.using(CONTROL).filter(Q(tenant_id=tenant.id) | Q(error__regex=named))
    requests.update(error="")
    batches: QuerySet[BatchTenant] = BatchTenant.objects.using(CONTROL).filter(tenant_id=tenant.id)
    MigrationBatch.objects.using(CONTROL).filter(pk__in=batches.values("batch")).update(error="")
    batches.update(error="")


def _require_accepted(row: Erasure, what: str, reason: str) -> None:
    """Raise `DeletionUnfinished` unless the operator has accepted this loss (`what`)."""
    if what in row.accepts:
        return
    raise DeletionUnfinished(
        row.tenant_id, reason, hint=HINTS[what](), page_hint=PAGE_HINTS[what]() % {"id": row.tenant_id}
    )


HINTS: dict[str, Callable[[], str]] = {
    AUDIT_LOSS: lambda: _(
        "To delete the tenant anyway, run `seo-gen tenant delete` with --accept-audit-loss; the certificate will say"
        " so."
    ),
    LOST_BACKUPS: lambda: _(
        "Fix this and run the command again. To leave these files instead, run `seo-gen tenant delete` with"
        " --accept-lost-backups; the certificate will then list them."
    ),
}


# Staff can only continue a deletion that has begun: what else is accepted is passed to the command.
PAGE_HINTS: dict[str, Callable[[], str]] = {
    AUDIT_LOSS: lambda: _(
        "To delete it anyway, an operator must run `seo-gen tenant delete --tenant-id %(id)s --accept-audit-loss`; the"
        " certificate will say so."
    ),
    LOST_BACKUPS: lambda: _(
        "Fix this, then press “Recover” on the operation's page. To leave these files instead, an operator must run"
        " `seo-gen tenant delete --tenant-id %(id)s --accept-lost-backups`; the certificate will then list them."
    ),
}


def _advance(row: Erasure, phase: ErasurePhase, found: Found) -> None:
    """Durably record that the step is done, with its findings."""
    row.phase = phase
    row.found = {**row.found, phase.value: found}
    with transaction.atomic(using=CONTROL):
        row.save(using=CONTROL, update_fields=["phase", "found"])
        audit(row, "tenant.delete.step", step=phase.value)
