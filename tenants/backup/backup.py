"""Back up tenants. A backup is a pg_dump, a manifest beside it, and optionally the tenant's files."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any, Literal, cast
from uuid import uuid4

from django.db import DatabaseError, connections, transaction
from django.db.models.functions import Now
from django.utils.timezone import now
from django.utils.translation import gettext as _

from audit.log.actor import current_actor
from audit.log.entries import record
from config.base.approvals import EXPORT, require_approval
from config.base.databases import CONTROL
from config.base.errors import SeoGenError
from tenants.backup.backup_files import names_of, storage_name
from tenants.backup.dump import DumpFormat, dump
from tenants.backup.manifest import AuditHead, Manifest, ManifestArtifact, ManifestFile, manifest_write
from tenants.backup.snapshot import Account, Snapshot, account_of, snapshot
from tenants.backup.standard_output import Streamed, streaming
from tenants.backup.version import product_version
from tenants.errors import BackupFailed, TenantBusy, TenantNotActive, failure_reason, reason_of
from tenants.files.age_encryption import SUFFIX as SEALED
from tenants.files.age_encryption import recipient_for, seal
from tenants.files.locations import Place, PlaceError, place_at
from tenants.files.streams import Tally, collecting, copy_stream, piped
from tenants.files.tar import tar_write
from tenants.models import Backup, BackupKind, BackupStatus, Tenant, TenantStatus, database_prefix
from tenants.operations import backup_lock
from tenants.parallel import in_parallel
from tenants.schema.releases import label, release
from tenants.selectors import require_finished, tenant_get, tenants_existing
from tenants.servers.programs import program, run
from tenants.types import OnProgress, Progress, ignore_progress

BACKED_UP = (TenantStatus.ACTIVE, TenantStatus.SUSPENDED)
WORKERS = 2
EXTENSIONS = {DumpFormat.CUSTOM: "dump", DumpFormat.PLAIN: "sql"}


@dataclass(frozen=True)
class BackupOutcome:
    """The result for one tenant: the record of its backup, or the problem that prevented it."""

    tenant_id: str
    backup: Backup | None
    problem: str = ""


def tenant_backup(
    *,
    tenant_id: str | None,
    output: str,
    dump_format: DumpFormat = DumpFormat.CUSTOM,
    with_storage: bool = False,
    recipient: str | None = None,
    workers: int = WORKERS,
    on_progress: OnProgress = ignore_progress,
) -> list[BackupOutcome]:
    """Back up the given tenant, or all active and suspended ones, to `output` (a folder or s3://bucket/prefix).

    `with_storage` includes the tenant's files. The backup is encrypted to the age `recipient` (None: the one in the
    settings; "": not encrypted). Up to `workers` tenants are backed up at a time. A `SeoGenError` of one tenant is
    reported in its outcome, and does not stop the others; any other error is raised. Also raises `UnknownTenant`,
    `TenantNotActive`, `PlaceError` or `SealError` before anything is backed up.
    """
    place, recipient = place_at(output), recipient_for(recipient)
    tenants = [tenant_get(tenant_id)] if tenant_id else list(tenants_existing().filter(status__in=BACKED_UP))
    for tenant in tenants:
        if tenant.status not in BACKED_UP:
            raise TenantNotActive(tenant.id, tenant.status)

    def work(tenant: Tenant) -> Backup:
        try:
            return backup_make(
                tenant,
                place,
                dump_format=dump_format,
                with_storage=with_storage,
                recipient=recipient,
                on_progress=on_progress,
            )
        finally:
            # Each thread has its own connection.
            connections[CONTROL].close()

    return _outcomes(tenants, work, workers)


def tenant_backup_stream(
    *,
    tenant_id: str,
    target: IO[bytes],
    dump_format: DumpFormat = DumpFormat.CUSTOM,
    recipient: str | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Streamed:
    """Write the tenant's dump only, without manifest or files, to `target`, such as standard output.

    The whole dump is collected first, so that a slow reader does not hold the tenant's snapshot open. Writing starts
    only after the audit entry "tenant.backup" is committed. The catalogue does not list the dump, but an erasure
    certificate does.

    Raises `UnknownTenant`, `TenantNotActive`, `SealError`, `TenantBusy`, `BackupFailed`, or `BrokenPipeError` if the
    reader stops reading.
    """
    recipient = recipient_for(recipient)
    tenant = tenant_get(tenant_id)
    if tenant.status not in BACKED_UP:
        raise TenantNotActive(tenant.id, tenant.status)
    with backup_lock(tenant.id), failing_as(tenant, BackupKind.BACKUP), collecting() as collected:
        require_finished(tenant.id)
        work = f"backup {uuid4()}"
        on_progress(Progress(tenant.id, "snapshot"))
        with snapshot(tenant, work=work) as taken:
            on_progress(Progress(tenant.id, "dump"))
            _dump_into(collected, taken, work, dump_format, recipient)
        collected.seek(0)
        with streaming(tenant, BackupKind.BACKUP, target) as tally:
            copy_stream(collected, cast(IO[bytes], tally))
    on_progress(Progress(tenant.id, "done"))
    return Streamed(tenant.id, tally.size_bytes, tally.sha256)


def _outcomes(tenants: Sequence[Tenant], work: Callable[[Tenant], Backup], workers: int) -> list[BackupOutcome]:
    outcomes = []
    for tenant, result in in_parallel(work, tenants, workers):
        if isinstance(result, Backup):
            outcomes.append(BackupOutcome(tenant.id, result))
        elif isinstance(result, SeoGenError):
            outcomes.append(BackupOutcome(tenant.id, None, str(result)))
        else:
            raise result
    return sorted(outcomes, key=lambda outcome: outcome.tenant_id)


def backup_make(
    tenant: Tenant,
    place: Place,
    *,
    dump_format: DumpFormat,
    with_storage: bool,
    recipient: str,
    on_progress: OnProgress = ignore_progress,
) -> Backup:
    """Back up one tenant and return the completed record.

    Raises `BackupFailed`, `TenantBusy`, `TenantUnfinished` or `FleetUnfinished`.

    1. record the backup; 2. open a snapshot; 3. dump the database and, at the same time, read what the manifest says of
    it; 4. copy files if `with_storage`; 5. write the manifest (the last file, since a backup without a manifest counts
    as incomplete); 6. complete the record. After a failure, the files are removed and the record is marked as failed;
    if the files cannot be removed now, `tenant recover` does both.
    """
    with backup_lock(tenant.id):
        require_finished(tenant.id)
        name = _name(tenant, dump_format, recipient)
        with recorded(tenant, place, name, kind=BackupKind.BACKUP, made_as=dump_format, recipient=recipient) as backup:
            manifest = _write(tenant, place, backup, with_storage, on_progress)
            backup_complete(backup, manifest)
    on_progress(Progress(tenant.id, "done"))
    return backup


@contextmanager
def recorded(
    tenant: Tenant, place: Place, name: str, *, kind: BackupKind, made_as: str, recipient: str
) -> Iterator[Backup]:
    """Record the backup that the block makes; if the block fails, remove the files and mark the record as failed.

    If the files cannot be removed, the record stays unfinished, and `tenant recover` does both. `failing_as` says which
    error is raised.
    """
    backup = _begin(tenant, place, name, kind=kind, made_as=made_as, recipient=recipient)
    try:
        yield backup
    except BaseException as error:
        if place.completed.isdisjoint(names_of(backup)):
            _failed(backup, _reason(error))
        else:
            with suppress(PlaceError):  # `tenant recover` removes what cannot be removed now
                backup_abandon(backup, place, _reason(error))
        with failing_as(tenant, kind):
            raise


@contextmanager
def failing_as(tenant: Tenant, kind: BackupKind) -> Iterator[None]:
    """Turn errors that an operator can act on into `BackupFailed`, except `TenantBusy` and `BrokenPipeError`."""
    try:
        yield
    except (BackupFailed, TenantBusy, BrokenPipeError):
        raise
    except (SeoGenError, DatabaseError, OSError) as error:
        # OSError too: the disk with a temporary file may be full.
        raise BackupFailed(
            tenant.id, _reason(error), exported=kind == BackupKind.EXPORT, code=getattr(error, "code", "")
        ) from error


def backup_abandon(backup: Backup, place: Place, reason: str) -> None:
    """Remove the files of an incomplete backup, and mark its record as failed."""
    for name in names_of(backup):
        place.remove(name)
    _failed(backup, reason)


def _failed(backup: Backup, reason: str) -> None:
    with transaction.atomic(using=CONTROL):
        Backup.objects.using(CONTROL).filter(pk=backup.pk, status=BackupStatus.RUNNING).update(
            status=BackupStatus.FAILED, error=reason, finished_at=Now()
        )
        # The entry omits the reason, which may quote database contents.
        _audit(f"tenant.{backup.kind}.fail", backup, {})


def _name(tenant: Tenant, dump_format: DumpFormat, recipient: str) -> str:
    sealed = SEALED if recipient else ""
    return f"{tenant.id}-{now():%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}.{EXTENSIONS[dump_format]}{sealed}"


def _begin(tenant: Tenant, place: Place, name: str, *, kind: BackupKind, made_as: str, recipient: str) -> Backup:
    with transaction.atomic(using=CONTROL):
        if kind == BackupKind.EXPORT:
            require_approval(EXPORT, tenant.id, {"output": place.path(name), "recipient": recipient})
        backup = Backup.objects.using(CONTROL).create(
            tenant_id=tenant.id,
            identity=tenant.identity,
            kind=kind,
            status=BackupStatus.RUNNING,
            place=place.url,
            name=name,
            format=made_as,
            recipient=recipient,
            user_id=current_actor().user_id,
        )
        _audit(f"tenant.{kind}", backup, {})
    return backup


def _write(tenant: Tenant, place: Place, backup: Backup, with_storage: bool, on_progress: OnProgress) -> Manifest:
    work = f"backup {backup.pk}"
    on_progress(Progress(tenant.id, "snapshot"))
    with snapshot(tenant, work=work) as taken:
        on_progress(Progress(tenant.id, "dump"))
        with _dumping(place, backup, taken, work) as dumped:
            on_progress(Progress(tenant.id, "account"))
            account = account_of(taken, tenant, release(), work=work)
        file = dumped.result()
    storage = None
    if with_storage:
        on_progress(Progress(tenant.id, "storage"))
        storage = _write_storage(place, backup, tenant.id)
    manifest = manifest_of(tenant, backup, taken, account, file=file, storage=storage)
    on_progress(Progress(tenant.id, "manifest"))
    manifest_write(manifest, place, backup.name)
    return manifest


@contextmanager
def _dumping(place: Place, backup: Backup, taken: Snapshot, work: str) -> Iterator[Future[ManifestFile]]:
    """Write the dump in a thread while the block runs, and then wait for it; stop the thread if the block fails."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as beside:
        try:
            yield beside.submit(_write_dump, place, backup, taken, work, stop)
        except BaseException:
            stop.set()
            raise


def _write_dump(place: Place, backup: Backup, taken: Snapshot, work: str, stop: threading.Event) -> ManifestFile:
    with place.writing(backup.name) as target:
        tally = Tally(target, stop)
        _dump_into(cast(IO[bytes], tally), taken, work, DumpFormat(backup.format), backup.recipient)
    return ManifestFile(name=backup.name, sha256=tally.sha256, size_bytes=tally.size_bytes)


def _dump_into(target: IO[bytes], taken: Snapshot, work: str, dump_format: DumpFormat, recipient: str) -> None:
    dump(
        taken.server,
        taken.database,
        taken.server_version,
        lambda stream: seal(stream, target, recipient),
        work=work,
        dump_format=dump_format,
        snapshot=taken.name,
    )


def _write_storage(place: Place, backup: Backup, tenant_id: str) -> ManifestFile:
    name = storage_name(backup.name)
    with place.writing(name) as target:
        tally = Tally(target)
        with piped(lambda pushed: tar_write(tenant_id, pushed)) as stream:
            seal(stream, cast(IO[bytes], tally), backup.recipient)
    return ManifestFile(name=name, sha256=tally.sha256, size_bytes=tally.size_bytes)


def manifest_of(tenant: Tenant, backup: Backup, taken: Snapshot, account: Account, **parts: Any) -> Manifest:
    """Return the manifest; `parts` are its fields `file`, `storage` and, for an export, `parts`."""
    return Manifest(
        tenant_id=tenant.id,
        name=tenant.name,
        identity=tenant.identity,
        chain_identity=tenant.chain_identity or tenant.identity,
        created_at=backup.started_at,
        format=cast(Literal["custom", "plain"], DumpFormat.PLAIN if backup.format == "plain" else DumpFormat.CUSTOM),
        recipient=backup.recipient,
        server_version=taken.server_version,
        tools=_tools(taken.server_version),
        product=product_version(),
        database_prefix=database_prefix(),
        schema_version=release().version_of(account.census.history),
        **_contents(account),
        **parts,
    )


def _contents(account: Account) -> dict[str, Any]:
    """Return the manifest's fields that describe the dump's contents."""
    census = account.census
    return {
        "history": sorted(map(label, census.history)),
        "fingerprint": account.fingerprint,
        "drift": account.drift,
        "large_objects": account.large_objects,
        "audit": AuditHead(sequence=census.audit.sequence, hash=census.audit.hash),
        "rows": census.rows,
        "artifacts": [
            ManifestArtifact(path=one.path, digest=one.digest, size_bytes=one.size_bytes) for one in account.files
        ],
    }


def _tools(server_version: int) -> str:
    return run([program("pg_dump", server_version), "--version"], {}).strip()


def backup_complete(backup: Backup, manifest: Manifest) -> None:
    """Mark the backup's record as completed, and store the manifest in it, without the list of artifacts."""
    storage_bytes = manifest.storage.size_bytes if manifest.storage else 0
    # Omit the list of files, which is in the manifest file; a thousand such lists would fill the control database.
    kept = manifest.model_dump(mode="json", exclude={"artifacts"})
    backup.status = BackupStatus.COMPLETED
    backup.size_bytes = manifest.file.size_bytes + storage_bytes
    backup.manifest = {**kept, "artifact_count": len(manifest.artifacts)}
    backup.schema_version = manifest.schema_version
    backup.finished_at = now()
    with transaction.atomic(using=CONTROL):
        backup.save(using=CONTROL, update_fields=["status", "size_bytes", "manifest", "schema_version", "finished_at"])
        _audit(f"tenant.{backup.kind}.complete", backup, {"sha256": manifest.file.sha256, "audit": kept["audit"]})


def _reason(error: BaseException) -> str:
    if isinstance(error, DatabaseError):
        return _("A database cannot be used: %(reason)s.") % {"reason": reason_of(error)}
    return failure_reason(error)


def _audit(action: str, backup: Backup, details: dict[str, object]) -> None:
    where = {"backup": str(backup.pk), "place": backup.place, "file": backup.name}
    record(
        using=CONTROL, action=action, resource_type="tenant", resource_id=backup.tenant_id, details={**where, **details}
    )
