"""Export a tenant as one bundle (`tenants.transfer.bundle`)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import IO, cast

from django.db import connections
from django.db.models.functions import Coalesce, Now
from django.utils.translation import gettext as _

from audit.log.file_format import audit_lines
from config.base.approvals import EXPORT, check_approval
from config.base.databases import CONTROL
from llm.transfer import configuration_read
from tenants.backup.backup import BACKED_UP, backup_complete, failing_as, manifest_of, recorded
from tenants.backup.dump import dump
from tenants.backup.manifest import Manifest
from tenants.backup.snapshot import Snapshot, account_of, snapshot
from tenants.backup.standard_output import Streamed, streaming, unrecorded
from tenants.errors import TenantNotActive
from tenants.files.age_encryption import recipient_for, seal
from tenants.files.locations import STANDARD, Place, PlaceError, split_file
from tenants.files.streams import Tally, collecting, copy_stream, piped
from tenants.files.tar import tar_write
from tenants.models import Backup, BackupKind, BackupStatus, Tenant
from tenants.operations import backup_lock
from tenants.schema.releases import release
from tenants.selectors import require_finished, tenant_get
from tenants.transfer.bundle import AUDIT, CONTROL_ROWS, DUMP, MANIFEST, STORAGE, BundlePart, bundle_write, part_of
from tenants.types import OnProgress, Progress, ignore_progress


def tenant_export(
    *, tenant_id: str, output: str, recipient: str | None = None, on_progress: OnProgress = ignore_progress
) -> Backup:
    """Write the tenant's bundle to the file `output` (a path or s3://bucket/key), and return its record.

    The bundle is encrypted as in `tenant_backup`. An existing file is not overwritten. Raises `UnknownTenant`,
    `TenantNotActive`, `TenantBusy`, `TenantUnfinished`, `FleetUnfinished`, `SealError`, `PlaceError`,
    `ApprovalRequired`, `ApprovalRefused` or `BackupFailed`. A partial file is removed, if need be by `tenant recover`.
    """
    recipient = recipient_for(recipient)
    tenant = _exportable(tenant_id)
    place, name = split_file(output)
    _require_new(place, name)
    with backup_lock(tenant.id):
        require_finished(tenant.id)
        with (
            recorded(tenant, place, name, kind=BackupKind.EXPORT, made_as="bundle", recipient=recipient) as backup,
            ExitStack() as stack,
        ):
            manifest, parts = _parts(tenant, backup, stack, on_progress)
            on_progress(Progress(tenant.id, "bundle"))
            with place.writing(backup.name, replace=False) as target:
                tally = Tally(target)
                _write_bundle(manifest, parts, tally, recipient)
            backup_complete(backup, _as_stored(manifest, tally))
    on_progress(Progress(tenant.id, "done"))
    return backup


def tenant_export_stream(
    *, tenant_id: str, target: IO[bytes], recipient: str | None = None, on_progress: OnProgress = ignore_progress
) -> Streamed:
    """Write the tenant's bundle to `target`, such as standard output, as `tenant_export` writes it to a file.

    Nothing is written until all parts are collected and the audit entry "tenant.export" is committed. The bundle is not
    in the catalogue, but an erasure certificate lists it. Raises `UnknownTenant`, `TenantNotActive`, `TenantBusy`,
    `SealError`, `ApprovalRequired`, `ApprovalRefused`, `BackupFailed`, or `BrokenPipeError` if the reader stops
    reading.
    """
    recipient = recipient_for(recipient)
    tenant = _exportable(tenant_id)
    check_approval(EXPORT, tenant.id, {"output": STANDARD, "recipient": recipient})
    with backup_lock(tenant.id), ExitStack() as stack, failing_as(tenant, BackupKind.EXPORT):
        require_finished(tenant.id)
        backup = unrecorded(tenant, kind=BackupKind.EXPORT, made_as="bundle", recipient=recipient)
        manifest, parts = _parts(tenant, backup, stack, on_progress)
        on_progress(Progress(tenant.id, "bundle"))
        with streaming(tenant, BackupKind.EXPORT, target, recipient=recipient) as tally:
            _write_bundle(manifest, parts, tally, recipient)
    on_progress(Progress(tenant.id, "done"))
    return Streamed(tenant.id, tally.size_bytes, tally.sha256)


def _exportable(tenant_id: str) -> Tenant:
    tenant = tenant_get(tenant_id)
    if tenant.status not in BACKED_UP:
        raise TenantNotActive(tenant.id, tenant.status)
    return tenant


def _require_new(place: Place, name: str) -> None:
    """Raise `PlaceError` if the file exists, is being written or cannot be written.

    Records of a file that is gone are marked as removed and renamed, so that the name can be used again.
    """
    place.require_new(name)
    place.require_writable(name)
    gone = Backup.objects.using(CONTROL).filter(place=place.url, name=name)
    if gone.filter(status=BackupStatus.RUNNING).exists():
        raise PlaceError(
            _("An export to %(path)s has not finished.") % {"path": place.path(name)},
            hint=_("If its process is no longer running, run `seo-gen tenant recover`."),
            code="file_busy",
        )
    for backup in gone:
        gone.filter(pk=backup.pk).update(
            name=f"{name} ({backup.pk})", status=BackupStatus.REMOVED, removed_at=Coalesce("removed_at", Now())
        )


def _parts(
    tenant: Tenant, backup: Backup, stack: ExitStack, on_progress: OnProgress
) -> tuple[Manifest, list[BundlePart]]:
    """Return the manifest and the parts. Large parts are in unnamed files, so a killed process leaves none behind."""
    work = f"export {backup.pk}"
    on_progress(Progress(tenant.id, "snapshot"))
    with snapshot(tenant, work=work) as taken:
        on_progress(Progress(tenant.id, "dump"))
        dumped = _dumped(taken, stack, work)
        on_progress(Progress(tenant.id, "account"))
        account = account_of(taken, tenant, release(), work=work)
        audit = _collected(AUDIT, stack, lambda target: _write_audit(target, taken.alias))
    on_progress(Progress(tenant.id, "storage"))
    files = _collected(STORAGE, stack, lambda target: tar_write(tenant.id, target))
    control = part_of(CONTROL_ROWS, configuration_read().model_dump_json(indent=1).encode())
    parts = [control, audit, dumped, files]
    manifest = manifest_of(
        tenant, backup, taken, account, file=dumped.stored, storage=files.stored, parts=[part.stored for part in parts]
    )
    return manifest, parts


def _write_bundle(manifest: Manifest, parts: list[BundlePart], tally: Tally, recipient: str) -> None:
    with piped(lambda pushed: bundle_write([part_of(MANIFEST, manifest.document()), *parts], pushed)) as stream:
        seal(stream, cast(IO[bytes], tally), recipient)


def _as_stored(manifest: Manifest, tally: Tally) -> Manifest:
    """Return the manifest for the catalogue, with the stored bundle's digest and size in place of the dump's."""
    file = manifest.file.model_copy(update={"sha256": tally.sha256, "size_bytes": tally.size_bytes})
    return manifest.model_copy(update={"file": file, "storage": None})


def _dumped(taken: Snapshot, stack: ExitStack, work: str) -> BundlePart:
    def write(target: IO[bytes]) -> None:
        dump(
            taken.server,
            taken.database,
            taken.server_version,
            lambda stream: copy_stream(stream, target),
            work=work,
            snapshot=taken.name,
        )

    return _collected(DUMP, stack, write)


def _collected(name: str, stack: ExitStack, write: Callable[[IO[bytes]], object]) -> BundlePart:
    file = stack.enter_context(collecting())
    tally = Tally(file)
    write(cast(IO[bytes], tally))
    return BundlePart(name, file, tally.size_bytes, tally.sha256)


def _write_audit(target: IO[bytes], alias: str) -> None:
    for line in audit_lines(connections[alias]):
        target.write(line)
