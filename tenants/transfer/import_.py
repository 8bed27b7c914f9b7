"""Import a tenant from a bundle that `tenant export` made, here or elsewhere."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from django.conf import settings
from django.utils.translation import gettext as _

from audit.log.chain_check import ChainHead
from audit.log.entries import record
from config.base.databases import CONTROL
from config.base.errors import SeoGenError
from llm.transfer import LLMConfiguration, configuration_add
from tenants.backup.manifest import Manifest
from tenants.erasure_ledger import note_return, require_not_erased
from tenants.errors import ImportRefused, TenantExists, TenantUnfinished, disk_failures_told
from tenants.files.age_encryption import age_identity_require
from tenants.files.files_read import Given, Reader, location_of
from tenants.files.locations import Place, source_file
from tenants.fleet.batch import fleet_shared
from tenants.models import DatabaseServer, Tenant, TenantStatus
from tenants.naming import copied_name, validate_id
from tenants.operations import tenant_lock
from tenants.restore.build import Expected
from tenants.restore.load_limits import LoadGuard
from tenants.restore.scratch_database import Scratch
from tenants.restore.sources import Unfit, load_stream
from tenants.selectors import server_for_new_tenant
from tenants.transfer.bundle import AUDIT, CONTROL_ROWS, DUMP, STORAGE, Bundle, bundle_open
from tenants.transfer.new_tenant import IMPORT, activate, fill, newcomer, take_files
from tenants.types import CloneReport, OnProgress, Progress, ignore_progress


def tenant_import(
    *,
    file: str,
    new_id: str | None = None,
    server_name: str | None = None,
    age_identity_file: str | None = None,
    from_erased: str = "",
    on_progress: OnProgress = ignore_progress,
) -> CloneReport:
    """Create a tenant from a bundle, under the bundle's tenant id or `new_id`, and return a report.

    Under the bundle's id, the tenant keeps its identity; under another id, it gets a new identity, and its audit log
    continues the old chain. Providers, models and steps that are missing here are added, except those of providers
    for which this release has no client; existing ones are not changed.

    The bundle of a tenant that was erased here is refused unless `from_erased` gives a reason, which is recorded.
    Raises `PlaceError`, `TenantExists`, or `ImportRefused` with the reason; then no tenant is left behind. Raises
    `TenantUnfinished` if something is.
    """
    place, name = source_file(file)
    with _refusing(place.path(name)), ExitStack() as stack:
        _require_twice_readable(place, name)
        server = _checked_first(new_id, server_name, age_identity_file)
        with bundle_open(place, name, age_identity_file) as bundle:
            manifest = bundle.manifest
            tenant_id = new_id or manifest.tenant_id
            keeps = tenant_id == manifest.tenant_id
            stack.enter_context(fleet_shared(wait_s=settings.OPERATION_WAIT_S))
            stack.enter_context(tenant_lock(tenant_id))
            tenant_name = copied_name(manifest.name, "" if keeps else f" ({tenant_id})")
            _require_free(tenant_id, manifest, keeps)
            erasure = require_not_erased(manifest.identity, reason=from_erased)
            on_progress(Progress(tenant_id, "examine"))
            configuration = _examined(bundle)
        if erasure is not None:
            note_return(erasure, new_id=tenant_id, source=place.path(name), reason=from_erased)
        bundle = stack.enter_context(bundle_open(place, name, age_identity_file))
        _require_same(bundle, manifest)
        made = stack.enter_context(
            newcomer(
                tenant_id=tenant_id,
                name=tenant_name,
                identity=manifest.identity if keeps else uuid.uuid4(),
                chain_identity=manifest.chain_identity,
                server=server,
                kind=IMPORT,
                source=place.path(name),
                given=Given(place, {name: ""}, manifest.identity),
                origin=Reader(manifest.tenant_id, manifest.identity),
                on_progress=on_progress,
            )
        )
        built = fill(made, BundleDump(bundle), _expected(manifest))
        with bundle.part(STORAGE) as stream:
            missing = take_files(made, bundle.files(stream))
        made.at("configuration")
        added: list[str] = []
        tenant = activate(made, built, together_with=lambda: added.extend(_add(configuration, tenant_id)))
    return CloneReport(
        tenant.id, manifest.tenant_id, place.path(name), built.version, built.census.rows, missing, added
    )


@contextmanager
def _refusing(file: str) -> Iterator[None]:
    """Turn errors into `ImportRefused`, which names the file; `TenantExists` and `TenantUnfinished` pass."""
    try:
        with disk_failures_told():
            yield
    except (TenantExists, TenantUnfinished):
        raise
    except SeoGenError as error:
        raise ImportRefused(file, error.message, hint=error.hint, code=error.code) from error


def _checked_first(new_id: str | None, server_name: str | None, age_identity_file: str | None) -> DatabaseServer:
    """Check what does not need the bundle, since reading a bundle may take hours; return the new tenant's server."""
    if new_id is not None:
        validate_id(new_id)
    age_identity_require(age_identity_file)
    return server_for_new_tenant(server_name)


def _require_twice_readable(place: Place, name: str) -> None:
    if location_of(place, name).is_stream:
        raise Unfit(
            _(
                "A bundle is read twice, first to check it and then to import it, but a pipe can be read only once."
                " Save the bundle to a file and pass that."
            ),
            code="bundle_not_rereadable",
        )


@dataclass(frozen=True)
class BundleDump:
    """The dump in a bundle, as a source to build a database from."""

    bundle: Bundle
    # A bundle's dump is never trusted, no matter who made it.
    is_ours: bool = False

    @property
    def description(self) -> str:
        return DUMP

    @property
    def manifest(self) -> Manifest:
        return self.bundle.manifest

    @property
    def dump_bytes(self) -> int | None:
        return self.bundle.size_of(DUMP)

    def load_into(self, scratch: Scratch, guard: LoadGuard, *, work: str) -> None:
        with self.bundle.part(DUMP) as stream:
            load_stream(stream, scratch, guard, work=work)


def _examined(bundle: Bundle) -> LLMConfiguration:
    """Read and check the whole bundle before anything is created; return its LLM configuration.

    The audit log's chain must be intact, and must end where the manifest says, unless the manifest gives the number 0.
    """
    configuration = bundle.control_rows()
    manifest = bundle.manifest
    bad, head = bundle.audit_check()
    if bad is not None:
        raise Unfit(_("The audit log is broken at entry %(number)d.") % {"number": bad})
    if manifest.audit.sequence and head != ChainHead(manifest.audit.sequence, manifest.audit.hash):
        raise Unfit(_("The bundle's audit log does not end where the manifest says."))
    bundle.skip(DUMP)
    with bundle.part(STORAGE) as stream:
        for _name in bundle.files(stream):
            pass
    bundle.end()
    return configuration


def _require_same(bundle: Bundle, manifest: Manifest) -> None:
    """Refuse a file that was replaced since the check, and read it up to the dump.

    Each part is checked against the manifest again when it is read.
    """
    if bundle.manifest != manifest:
        raise Unfit(_("The file was replaced while it was being read."), code="bundle_replaced")
    bundle.skip(CONTROL_ROWS)
    bundle.skip(AUDIT)


def _require_free(tenant_id: str, manifest: Manifest, keeps: bool) -> None:
    tenants = Tenant.objects.using(CONTROL)
    present = tenants.filter(pk=tenant_id).first()
    if present is not None and present.status == TenantStatus.DELETED:
        raise TenantExists(
            _("The id %(id)s belonged to an erased tenant and cannot be reused.") % {"id": tenant_id},
            hint=_("Choose another id with --id."),
            code="tenant_id_erased",
        )
    if present is not None:
        raise TenantExists(
            _("Tenant %(id)s already exists (%(status)s).") % {"id": tenant_id, "status": present.get_status_display()},
            hint=_("Choose another id with --id."),
        )
    if keeps and tenants.filter(identity=manifest.identity).exists():
        raise TenantExists(
            _("The tenant in this bundle already exists here under another id."),
            hint=_("Choose another id with --id."),
        )


def _expected(manifest: Manifest) -> Expected:
    return Expected(
        tenant_id=manifest.tenant_id,
        identity=manifest.identity,
        chain_identity=manifest.chain_identity,
        fleet_version="",
    )


def _add(configuration: LLMConfiguration, tenant_id: str) -> list[str]:
    """Add what is missing here, with an audit entry; return the names of what was added.

    Call this in a transaction on the control database.
    """
    added = configuration_add(configuration)
    if added:
        record(
            using=CONTROL,
            action="llm.catalogue.seed",
            resource_type="llm_catalogue",
            resource_id="import",
            details={"tenant": tenant_id, "added": list(added)},
        )
    return added
