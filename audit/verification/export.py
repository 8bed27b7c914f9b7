"""Export an audit log, chain included, to a file that can be verified without a database.

docs/verify_audit_export.py verifies it. The format is that of `audit.log.file_format`, one entry per line, without a
header. As a result, the export of an erased tenant's log has the sha256 that its archive recorded. A header would prove
nothing about its own file anyway.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import IO
from uuid import UUID

from django.db import connections, transaction

from audit.control.models import AuditArchive
from audit.log.archive import LogSummary, archived_lines, log_summary
from audit.log.chain_check import CONTROL_CHAIN
from audit.log.entries import record
from audit.log.file_format import audit_lines
from config.base.databases import CONTROL
from tenants.errors import TenantNotActive
from tenants.files.locations import STANDARD, split_file
from tenants.files.streams import collecting, copy_stream
from tenants.models import TenantStatus
from tenants.operations import backup_lock
from tenants.routing.context import tenant_context
from tenants.routing.held_transaction import held_open
from tenants.selectors import require_finished, tenant_get

READABLE = (TenantStatus.ACTIVE, TenantStatus.SUSPENDED)


@dataclass(frozen=True)
class AuditExport:
    """An exported log, with what is needed to verify it."""

    # None for the control log.
    tenant_id: str | None
    file: str
    # "database", or "archive" for an erased tenant's log.
    source: str
    # What the chain starts with: a tenant's identity, or `CONTROL_CHAIN`.
    chain_identity: str
    entries: int
    # The last entry's hash, or the genesis hash if the log has no entries.
    head: str
    # The digest of the file.
    sha256: str
    # The first entry that breaks the chain; None if the chain is intact.
    first_bad: int | None


@dataclass(frozen=True)
class _Log:
    tenant_id: str | None
    source: str
    chain_identity: UUID | str
    lines: Iterator[bytes]


def audit_export(*, tenant_id: str | None, output: str) -> AuditExport:
    """Export a tenant's log, or the control log if `tenant_id` is None, to the file `output` (a path or s3://…).

    `audit_stream` writes to a stream instead.

    1. Write the whole file under a temporary name, or upload its parts. 2. Commit the "audit.export" entry to the
    control log. 3. Rename the file, or complete the upload, unless the name is taken by then. This way every export is
    recorded; a failure between 2 and 3 leaves an entry without a file.

    A log whose chain is broken is exported unchanged, because it is evidence. Uses constant memory. Raises
    `UnknownTenant`; `TenantNotActive` if the tenant is neither active nor suspended, and its log is not archived;
    `TenantBusy`, `TenantUnfinished` or `FleetUnfinished` if the tenant is being changed; what `tenant_context` raises;
    or `PlaceError`, also if the file exists.
    """
    place, name = split_file(output)
    place.require_new(name)
    place.require_writable(name)
    with _log(tenant_id) as log, place.writing(name, replace=False) as target:
        summary = _written(log, target)
        _record(log, place.url, name, summary)
    return _export_of(log, place.path(name), summary)


def audit_stream(*, tenant_id: str | None, target: IO[bytes]) -> AuditExport:
    """Export the log to the stream `target`, such as standard output.

    The log is first collected in an unnamed temporary file. That way, the entry is committed before the first line is
    sent, and a slow reader does not block the tenant. Raises the errors of `audit_export`, except `PlaceError`.
    """
    with collecting() as collected:
        with _log(tenant_id) as log:
            summary = _written(log, collected)
            _record(log, STANDARD, STANDARD, summary)
        collected.seek(0)
        copy_stream(collected, target)
        target.flush()
    return _export_of(log, STANDARD, summary)


def _export_of(log: _Log, file: str, summary: LogSummary) -> AuditExport:
    return AuditExport(
        tenant_id=log.tenant_id,
        file=file,
        source=log.source,
        chain_identity=str(log.chain_identity),
        entries=summary.entries,
        head=summary.head.hash,
        sha256=summary.digest,
        first_bad=summary.first_bad,
    )


@contextmanager
def _log(tenant_id: str | None) -> Iterator[_Log]:
    if tenant_id is None:
        # Close the generator: after a failure it would leave the transaction open, and the thread that keeps it alive.
        with closing(_lines_now(CONTROL, control=True)) as lines:
            yield _Log(None, "database", CONTROL_CHAIN, lines)
        return
    tenant = tenant_get(tenant_id)
    if tenant.status in READABLE:
        # As for a backup: the database must not be replaced meanwhile.
        with backup_lock(tenant.id):
            require_finished(tenant.id)
            with tenant_context(tenant, statuses=READABLE) as alias, closing(_lines_now(alias)) as lines:
                yield _Log(tenant.id, "database", tenant.chain_identity or tenant.identity, lines)
        return
    archive = AuditArchive.objects.using(CONTROL).filter(identity=tenant.identity).first()
    if archive is None:
        raise TenantNotActive(tenant.id, tenant.status)
    with closing(_lines_archived(archive)) as lines:
        yield _Log(tenant.id, "archive", archive.chain_identity, lines)


def _lines_now(alias: str, *, control: bool = False) -> Generator[bytes]:
    # The target may stall while the lines are written to it.
    with transaction.atomic(using=alias), held_open(connections[alias]):
        yield from audit_lines(connections[alias], "control_audit_logs" if control else "audit_logs")


def _lines_archived(archive: AuditArchive) -> Generator[bytes]:
    with transaction.atomic(using=CONTROL), held_open(connections[CONTROL]):
        yield from archived_lines(archive.identity)


def _written(log: _Log, target: IO[bytes]) -> LogSummary:
    """Write the lines, and return their summary."""

    def passing() -> Iterator[bytes]:
        for line in log.lines:
            target.write(line)
            yield line

    return log_summary(passing(), log.chain_identity)


def _record(log: _Log, place: str, name: str, summary: LogSummary) -> None:
    with transaction.atomic(using=CONTROL):
        record(
            using=CONTROL,
            action="audit.export",
            resource_type="tenant" if log.tenant_id else "audit_log",
            resource_id=log.tenant_id or CONTROL_CHAIN,
            details={
                "place": place,
                "file": name,
                "source": log.source,
                "entries": summary.entries,
                "head": summary.head.hash,
                "sha256": summary.digest,
            },
        )
