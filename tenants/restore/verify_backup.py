"""Verify that a backup can be restored, by restoring it into a scratch database and checking the result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import transaction
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from audit.log.entries import record
from config.base.databases import CONTROL
from config.base.errors import SeoGenError
from tenants.app_hooks import FileRef
from tenants.backup.manifest import Manifest
from tenants.erasure_ledger import require_not_erased
from tenants.errors import disk_failures_told
from tenants.files.age_encryption import SealError, age_identity_require
from tenants.files.files_read import VERIFY, Reader, reading_begin
from tenants.files.locations import MissingFromPlace, source_file
from tenants.files.tar import digests_of, tar_read
from tenants.files.tenant_storage import prefix_of
from tenants.models import Backup, BackupStatus, DatabaseServer, Tenant, database_prefix
from tenants.operations import block_deletion
from tenants.restore.build import Built, Expected, build
from tenants.restore.reconcile import broken
from tenants.restore.scratch_database import throwaway
from tenants.restore.sources import BackupFile, Source, Unfit, backup_find, opened
from tenants.schema.releases import release
from tenants.selectors import server_get
from tenants.servers.session import ServerSession
from tenants.types import OnProgress, Progress, Verification, ignore_progress

NAMED = 5


def backups_verify(
    *, file: str | None = None, age_identity_file: str | None = None, on_progress: OnProgress = ignore_progress
) -> list[Verification]:
    """Verify the given backup, or the newest backup of each tenant; return one result per backup.

    A backup is restored into a scratch database and checked as in a restore; the files that its rows refer to are
    compared with their digests. The result is stored in the catalogue if it lists the backup, unless the backup could
    not be decrypted. Raises `SealError` if the given age identity file cannot be used, and `PlaceError` if the given
    path names no file or its place cannot be read, or (`MissingFromPlace`) if the backup neither exists nor is in the
    catalogue.
    """
    age_identity_require(age_identity_file)
    if file:
        _require_known(file)
    files = [file] if file else _newest()
    return [backup_verify(one, age_identity_file=age_identity_file, on_progress=on_progress) for one in files]


def _require_known(url: str) -> None:
    """Raise `MissingFromPlace` if the file is missing, unless it is catalogued: then the result reports that."""
    place, name = source_file(url)
    catalogued = Backup.objects.using(CONTROL).filter(place=place.url, name=name)
    if place.size(name) is None and not catalogued.exists():
        raise MissingFromPlace(_("%(path)s does not exist.") % {"path": place.path(name)})


def backup_verify(
    url: str, *, age_identity_file: str | None, on_progress: OnProgress = ignore_progress
) -> Verification:
    """Verify one backup; the result states the problem, if any."""
    begun = time.monotonic()
    tenant_id, problem = "", ""
    try:
        file = backup_find(url, age_identity_file)
        if file.manifest is None:
            raise Unfit(
                _("%(path)s has no manifest to compare it with.") % {"path": file.description}, code="manifest_missing"
            )
        tenant_id = file.manifest.tenant_id
        require_not_erased(file.manifest.identity)
        _record(file, file.manifest)
        with (
            block_deletion(tenant_id),
            ServerSession(_server(file.manifest), database_prefix(), "verify") as server_session,
        ):
            on_step = _announcing(tenant_id, on_progress)
            with disk_failures_told():
                build_throwaway(server_session, file, expected_of(file.manifest, file.is_ours), on_step=on_step)
        on_progress(Progress(tenant_id, "files"))
        _require_files(file, file.manifest, age_identity_file)
    except SealError as error:
        # The age identity is more likely to be wrong than the backup, so the catalogue keeps its previous result.
        return Verification(url, tenant_id, str(error.message), round(time.monotonic() - begun, 1))
    except SeoGenError as error:
        problem = str(error.message)
    _note(url, problem)
    on_progress(Progress(tenant_id, "done"))
    return Verification(url, tenant_id, problem, round(time.monotonic() - begun, 1))


def build_throwaway(
    server_session: ServerSession, source: Source, expected: Expected, *, on_step: Callable[[str], None]
) -> Built:
    """Build the database as a restore would, drop it, and return what was built."""
    with throwaway(server_session) as scratch:
        return build(scratch, source, expected, release(), work=f"check {scratch.database[-12:]}", on_step=on_step)


def expected_of(manifest: Manifest, is_ours: bool) -> Expected:
    return Expected(
        tenant_id=manifest.tenant_id,
        identity=manifest.identity,
        chain_identity=manifest.chain_identity,
        fleet_version="",
        admits_drift=is_ours,
    )


@contextmanager
def timed(timing_s: dict[str, float]) -> Iterator[Callable[[str], None]]:
    """Yield a callback to call at the start of each step; store each step's duration in seconds in `timing_s`."""
    current, begun = "", time.monotonic()

    def on_step(step: str) -> None:
        nonlocal current, begun
        if current:
            timing_s[current] = round(time.monotonic() - begun, 2)
        current, begun = step, time.monotonic()

    yield on_step
    on_step("")


def _announcing(tenant_id: str, on_progress: OnProgress) -> Callable[[str], None]:
    return lambda step: on_progress(Progress(tenant_id, step))


def _newest() -> list[str]:
    """Return the path of each tenant's newest completed backup."""
    completed = Backup.objects.using(CONTROL).filter(status=BackupStatus.COMPLETED, kind="backup")
    newest = completed.order_by("tenant_id", "-started_at").distinct("tenant_id")
    return [f"{backup.place}/{backup.name}" for backup in newest]


def _server(manifest: Manifest) -> DatabaseServer:
    """Return the tenant's server, or the default server if the tenant does not exist here or has no server.

    The default server may be full or closed to new tenants: it only gets a scratch database.
    """
    tenant = Tenant.objects.using(CONTROL).select_related("server").filter(pk=manifest.tenant_id).first()
    return tenant.server if tenant and tenant.server else server_get(None)


def _require_files(file: BackupFile, manifest: Manifest, age_identity_file: str | None) -> None:
    """Raise `Unfit` unless the files in the backup's tar file or, without one, in the tenant's storage match the
    manifest's digests.
    """
    wanted = {artifact.path: artifact.digest for artifact in manifest.artifacts}
    if manifest.storage is None:
        refs = [FileRef(artifact.path, artifact.digest, artifact.size_bytes) for artifact in manifest.artifacts]
        missing = {one.path for one in broken(manifest.tenant_id, refs)}
        sentence = _(
            "Files that rows refer to are missing or changed in the tenant's storage: %(count)d of %(total)d"
            " (%(paths)s)."
        )
    else:
        with opened(file.place, manifest.storage.name, manifest.storage, age_identity_file) as stream:
            prefix = prefix_of(manifest.tenant_id)
            found = {prefix + name: digest for name, digest in digests_of(tar_read(stream))}
        missing = {path for path, digest in wanted.items() if found.get(path) != digest}
        sentence = _("Files that rows refer to are missing or changed in %(file)s: %(count)d of %(total)d (%(paths)s).")
    if missing:
        raise Unfit(
            sentence
            % {
                "count": len(missing),
                "total": len(wanted),
                "file": manifest.storage.name if manifest.storage else "",
                "paths": ", ".join(sorted(missing)[:NAMED]) + ", …" * (len(missing) > NAMED),
            },
            code="backup_files_missing",
        )


def _record(file: BackupFile, manifest: Manifest) -> None:
    with transaction.atomic(using=CONTROL):
        reading_begin(
            file.given(with_storage=True), purpose=VERIFY, readers=[Reader(manifest.tenant_id, manifest.identity)]
        )
        record(
            using=CONTROL,
            action="backup.verify",
            resource_type="tenant",
            resource_id=manifest.tenant_id,
            details={"file": file.description},
        )


def _note(url: str, problem: str) -> None:
    place, name = source_file(url)
    Backup.objects.using(CONTROL).filter(place=place.url, name=name).update(verified_at=Now(), verify_error=problem)
