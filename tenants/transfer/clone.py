"""Clone a tenant: restore a state of it into a new tenant, which is independent of the original."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime

from django.conf import settings
from django.utils.translation import gettext as _

from config.base.databases import CONTROL
from config.base.errors import SeoGenError
from tenants.erasure_ledger import note_return, require_not_erased
from tenants.errors import (
    RestoreRefused,
    TenantError,
    TenantExists,
    TenantNotActive,
    TenantUnfinished,
    disk_failures_told,
)
from tenants.files import tenant_storage
from tenants.files.age_encryption import age_identity_require
from tenants.files.files_read import Reader, holding_proven
from tenants.files.tar import File, tar_read
from tenants.files.tenant_storage import objects_of, prefix_of
from tenants.fleet.batch import fleet_shared
from tenants.models import DatabaseServer, Erasure, Tenant, TenantStatus
from tenants.naming import copied_name, validate_id
from tenants.operations import tenant_lock
from tenants.pitr.recover_server import Target, require_reachable
from tenants.restore.build import Expected
from tenants.restore.sources import BackupFile, Source, backup_find, described, opened, state_at
from tenants.schema.inspection import database_of
from tenants.selectors import server_for_new_tenant, tenant_get
from tenants.transfer.new_tenant import CLONE, activate, fill, newcomer, take_files
from tenants.types import CloneReport, OnProgress, ignore_progress


def tenant_clone(
    *,
    tenant_id: str,
    new_id: str,
    backup_file: str | None = None,
    to_time: datetime | None = None,
    age_identity_file: str | None = None,
    from_erased: str = "",
    on_progress: OnProgress = ignore_progress,
) -> CloneReport:
    """Create the tenant `new_id` from a backup of `tenant_id`, or from its state at `to_time` (aware).

    The new tenant gets its own identity, role and storage paths; the files that its rows refer to are copied. Its audit
    log continues the original's, as recorded in `chain_identity`. An erased tenant is cloned only if `from_erased`
    gives a reason, which is recorded. Raises `InvalidTenant`, `UnknownTenant`, `TenantNotActive`, `TenantExists`,
    `ErasedTenant` or `RestoreRefused`; then no tenant is left behind. Raises `TenantUnfinished` if something is.
    """
    validate_id(new_id)
    origin = tenant_get(tenant_id)
    erasure = require_not_erased(origin.identity, reason=from_erased)
    if origin.status == TenantStatus.DELETING:
        raise TenantNotActive(origin.id, origin.status)
    taken = Tenant.objects.using(CONTROL).filter(pk=new_id).first()
    if taken is not None:
        sentence = (
            _("The id %(id)s belonged to an erased tenant and cannot be reused.")
            if taken.status == TenantStatus.DELETED
            else _("Tenant %(id)s already exists.")
        )
        raise TenantExists(sentence % {"id": new_id}, hint=_("Choose another id."))
    with (
        _refusing(new_id),
        fleet_shared(wait_s=settings.OPERATION_WAIT_S),
        tenant_lock(new_id),
        ExitStack() as stack,
    ):
        age_identity_require(age_identity_file)
        file = backup_find(backup_file, age_identity_file) if backup_file else None
        if file and file.manifest and file.manifest.tenant_id != tenant_id:
            raise TenantError(
                _("%(file)s is a backup of tenant %(other)s, not of tenant %(id)s.")
                % {"file": file.description, "other": file.manifest.tenant_id, "id": tenant_id},
                code="backup_of_another_tenant",
            )
        server = origin.server or _former_server(erasure) or server_for_new_tenant(None, can_choose=False)
        if file is None:
            require_reachable(server, Target(time=to_time))
        if erasure is not None:
            source_name = file.description if file else described(to_time)
            note_return(erasure, new_id=new_id, source=source_name, reason=from_erased)
        made = stack.enter_context(
            newcomer(
                tenant_id=new_id,
                name=copied_name(origin.name, f" ({new_id})"),
                identity=uuid.uuid4(),
                chain_identity=origin.chain_identity or origin.identity,
                server=server,
                kind=CLONE,
                source=file.description if file else described(to_time),
                given=file.given(with_storage=True) if file else None,
                origin=Reader(origin.id, origin.identity),
                on_progress=on_progress,
            )
        )
        source: Source = file or stack.enter_context(
            state_at(server, erasure.database if erasure else database_of(origin), to_time, work=str(made.operation.pk))
        )
        built = fill(made, source, Expected.of(origin, source, fleet_version=""))
        if file is not None:
            holding_proven(file.given(with_storage=True), origin.identity)
        missing = take_files(made, _files(origin, file, age_identity_file))
        tenant = activate(made, built)
    return CloneReport(tenant.id, tenant_id, source.description, built.version, built.census.rows, missing)


def _former_server(erasure: Erasure | None) -> DatabaseServer | None:
    """Return an erased tenant's server, whose base backups may still contain the tenant; None if it is unknown."""
    return DatabaseServer.objects.using(CONTROL).filter(pk=erasure.server).first() if erasure else None


@contextmanager
def _refusing(new_id: str) -> Iterator[None]:
    """Turn errors into `RestoreRefused`, which names the new tenant; `TenantExists` and `TenantUnfinished` pass."""
    try:
        with disk_failures_told():
            yield
    except (TenantExists, TenantUnfinished):
        raise
    except SeoGenError as error:
        raise RestoreRefused(new_id, error.message, created=True, hint=error.hint, code=error.code) from error


def _files(origin: Tenant, file: BackupFile | None, age_identity_file: str | None) -> Iterator[File]:
    """Yield (name, content) of the files in the backup, if any, then of those in the original tenant's storage."""
    if file and file.manifest and file.manifest.storage:
        with opened(file.place, file.manifest.storage.name, file.manifest.storage, age_identity_file) as stream:
            yield from tar_read(stream)
    for stored in objects_of(origin.id):
        content = tenant_storage.read(stored.path)
        if content is not None:
            yield stored.path.removeprefix(prefix_of(origin.id)), io.BytesIO(content)
