"""Create a new tenant from another tenant's data: a clone or an import.

1. record the tenant, the operation and the files to read; 2. build and verify the tenant's database, as a restore does;
3. give the database the new tenant's identity and paths, mark pending and running runs as failed, and record that in
the tenant's audit log; 4. store the files; 5. summarize the runs, and give the tenant's role access; 6. activate the
tenant and, for an import, add the LLM configuration that is missing. No one can use the tenant before step 6, so a
failure or interruption before that is undone.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from django.db import IntegrityError, OperationalError, transaction
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from audit.log.chain_check import chain_head
from audit.log.entries import record
from config.base.databases import CONTROL
from tenants.app_hooks import contents
from tenants.errors import DatabaseUnusable, RestoreRefused, TenantExists, TenantUnfinished, failure_reason, reason_of
from tenants.files import tenant_storage
from tenants.files.files_read import Given, Reader, reading_begin
from tenants.files.tar import File, matching
from tenants.files.tenant_storage import is_beneath, objects_of, prefix_of
from tenants.identity.models import TenantIdentity
from tenants.models import (
    DatabaseServer,
    OperationStatus,
    Restore,
    RestorePhase,
    Tenant,
    TenantOperation,
    TenantStatus,
    database_prefix,
)
from tenants.naming import database_name, work_name
from tenants.operations import audit, operation_begin, operation_end
from tenants.restore.build import Built, Expected, build
from tenants.restore.scratch_database import Scratch, scratch_name
from tenants.restore.sources import Source
from tenants.routing.owner_connection import owner_connection
from tenants.schema.releases import release
from tenants.selectors import tenant_get
from tenants.servers.session import ServerSession, parse_location
from tenants.types import OnProgress, Progress

CLONE = "clone"
IMPORT = "import"


@dataclass(frozen=True)
class Newcomer:
    """A tenant that is being created."""

    tenant: Tenant
    operation: TenantOperation
    server_session: ServerSession
    on_progress: OnProgress
    work: str

    @property
    def database(self) -> str:
        return parse_location(self.tenant.database_url).database

    @property
    def scratch(self) -> Scratch:
        return Scratch(self.server_session, self.database, scratch_name(self.operation.pk))

    def at(self, step: str) -> None:
        self.on_progress(Progress(self.tenant.id, step))


@contextmanager
def newcomer(
    *,
    tenant_id: str,
    name: str,
    identity: uuid.UUID,
    chain_identity: uuid.UUID,
    server: DatabaseServer,
    kind: str,
    source: str,
    given: Given | None = None,
    origin: Reader | None = None,
    on_progress: OnProgress,
) -> Iterator[Newcomer]:
    """Record a tenant, and yield it for the block to fill; if the block fails, remove everything of the tenant.

    `given` specifies the files that the tenant is made from, if any; `origin` is the tenant whose data they contain.

    Raises `ServerError`, `TenantExists`, what the block raises, and `TenantUnfinished` if something could not be
    removed.
    """
    work = work_name(kind, identity)
    with ServerSession(server, database_prefix(), work) as server_session:
        server_session.require_needed()
        location = server_session.location(database_name(database_prefix()), secrets.token_urlsafe(32))
        tenant = Tenant(
            id=tenant_id,
            name=name,
            database_url=location.url,
            server=server,
            identity=identity,
            chain_identity=None if chain_identity == identity else chain_identity,
            status=TenantStatus.PROVISIONING,
        )
        made = Newcomer(tenant, _begin(tenant, kind, source, given, origin), server_session, on_progress, work)
        try:
            yield made
        except BaseException as failure:
            try:
                _undo(made, failure_reason(failure))
            except Exception as error:
                raise TenantUnfinished(tenant_id, kind) from error
            if isinstance(failure, OperationalError):
                # So that the caller refuses it as any other: the database was locked, or could not be reached.
                raise DatabaseUnusable(reason_of(failure)) from failure
            raise


def fill(made: Newcomer, source: Source, expected: Expected) -> Built:
    """Build the database from the source, with the new tenant's identity and paths, and an entry in its audit log.

    Pending and running runs are marked as failed.
    """
    built = build(made.scratch, source, expected, release(), work=made.work, on_step=made.at)
    made.at("identity")
    with (
        owner_connection(made.server_session.server, made.database, made.work) as connection,
        transaction.atomic(using=connection.alias),
    ):
        head = chain_head(connection)
        TenantIdentity.objects.using(connection.alias).update(tenant_id=made.tenant.id, identity=made.tenant.identity)
        contents().move(connection.alias, prefix_of(expected.tenant_id), prefix_of(made.tenant.id))
        reason = _("The tenant was cloned or imported from a state in which this run had not finished.")
        contents().settle(connection.alias, reason=reason, number=1, replaced=None)
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
        record(
            using=connection.alias,
            action=f"tenant.{'import' if made.operation.kind == IMPORT else 'restore'}",
            resource_type="tenant",
            resource_id=made.tenant.id,
            details={
                "operation": str(made.operation.pk),
                "from_tenant": expected.tenant_id,
                "from_identity": str(expected.identity),
                "restored": asdict(head) if head else None,
            },
        )
    return built


def take_files(made: Newcomer, files: Iterable[File]) -> list[str]:
    """Store the `files` (name under the prefix, content) that rows refer to; return the paths still missing."""
    made.at("files")
    with owner_connection(made.server_session.server, made.database, made.work) as connection:
        wanted = {file.path: file.digest for file in contents().files(connection.alias)}
    prefix = prefix_of(made.tenant.id)
    digests = {path.removeprefix(prefix): digest for path, digest in wanted.items() if is_beneath(made.tenant.id, path)}
    for name, content in matching(files, digests):
        tenant_storage.write_all({prefix + name: content})
        # A file may be in both the backup and the storage; the first match is used.
        del digests[name], wanted[prefix + name]
    return sorted(wanted)


def activate(made: Newcomer, built: Built, *, together_with: Callable[[], object] = lambda: None) -> Tenant:
    """Summarize the new tenant's runs, give its role access, activate the tenant and return it.

    `together_with` writes what the control database is to keep only if the tenant becomes active.
    """
    location = parse_location(made.tenant.database_url)
    with owner_connection(made.server_session.server, made.database, made.work) as connection:
        contents().summarize(made.tenant.id, connection.alias)
    made.at("access")
    made.server_session.ensure_login(location.role, location.password)
    made.server_session.open_to(location.database, location.role)
    made.at("open")
    with transaction.atomic(using=CONTROL):
        together_with()
        Tenant.objects.using(CONTROL).filter(pk=made.tenant.pk).update(
            status=TenantStatus.ACTIVE,
            schema_version=built.version,
            schema_drift=built.drift,
            schema_checked_at=Now(),
            work_seen_at=Now(),
        )
        Restore.objects.using(CONTROL).filter(pk=made.operation.pk).update(phase=RestorePhase.DONE)
        operation_end(made.operation, OperationStatus.COMPLETED)
        _audit(made.tenant, made.operation, ".complete", rows=built.census.rows)
    made.at("done")
    return tenant_get(made.tenant.id)


def recover(operation: TenantOperation, on_progress: OnProgress, _identity_file: str | None) -> None:
    """Undo an interrupted clone or import, then raise `RestoreRefused` to report the interruption."""
    tenant = tenant_get(operation.tenant_id)
    assert tenant.server is not None  # a tenant that we create always has one
    work = work_name(operation.kind, tenant.identity)
    with ServerSession(tenant.server, database_prefix(), work) as server_session:
        server_session.end_predecessors()
        _undo(Newcomer(tenant, operation, server_session, on_progress, work), _("It was interrupted and undone."))
    raise RestoreRefused(tenant.id, _("The operation was interrupted."), created=True)


def _begin(tenant: Tenant, kind: str, source: str, given: Given | None, origin: Reader | None) -> TenantOperation:
    try:
        with transaction.atomic(using=CONTROL):
            tenant.save(using=CONTROL, force_insert=True)
            operation = operation_begin(tenant_id=tenant.id, kind=kind)
            Restore.objects.using(CONTROL).create(
                operation=operation,
                tenant_id=tenant.id,
                source=source,
                live=parse_location(tenant.database_url).database,
            )
            if given is not None:
                own = Reader(tenant.id, tenant.identity)
                reading_begin(given, purpose=kind, readers=[own, origin] if origin else [own])
            _audit(tenant, operation, "", source=source)
    except IntegrityError as error:
        if "tenants_" not in str(error):
            raise
        raise TenantExists(
            _("Another tenant already has the id %(id)s, the name %(name)r or the same identity.")
            % {"id": tenant.id, "name": tenant.name},
            hint=_("Choose another id."),
        ) from error
    return operation


def _undo(made: Newcomer, reason: str) -> None:
    """Remove the tenant's database, roles, files and row, which no customer has ever used, and end the operation."""
    made.scratch.drop()
    made.server_session.drop_role(parse_location(made.tenant.database_url).role)
    tenant_storage.remove([one.path for one in objects_of(made.tenant.id)])
    with transaction.atomic(using=CONTROL):
        Tenant.objects.using(CONTROL).filter(pk=made.tenant.pk, status=TenantStatus.PROVISIONING).delete()
        Restore.objects.using(CONTROL).filter(pk=made.operation.pk).update(phase=RestorePhase.DONE)
        operation_end(made.operation, OperationStatus.UNDONE, error=reason)
        # The entry omits the reason, which may quote database contents.
        _audit(made.tenant, made.operation, ".undo")


def _audit(tenant: Tenant, operation: TenantOperation, end: str, **details: object) -> None:
    noun = "tenant.import" if operation.kind == IMPORT else "tenant.restore"
    audit(operation, noun + end, identity=str(tenant.identity), **details)
