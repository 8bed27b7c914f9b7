"""Create a tenant: its row, its role, its database cloned from the template, its identity."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from audit.log.actor import current_actor
from config.base.databases import CONTROL
from config.base.errors import SeoGenError
from tenants.errors import TenantError, TenantExists, TenantUnfinished, failure_reason
from tenants.fleet.batch import fleet_shared
from tenants.models import OperationStatus, Tenant, TenantOperation, TenantStatus, database_prefix
from tenants.naming import clean_name, database_name, id_from_name, numbered_ids, validate_id, work_name
from tenants.operations import advisory_lock, audit, operation_begin, operation_end, tenant_lock
from tenants.schema.reference import template_version
from tenants.schema.template import ensure_template
from tenants.selectors import operations_unfinished, server_for_new_tenant, tenant_get
from tenants.servers.session import ServerSession, bind_identity, parse_location
from tenants.types import OnProgress, Progress, ignore_progress

KIND = "create"


def tenant_create(
    *,
    name: str,
    tenant_id: str | None = None,
    server_name: str | None = None,
    fleet_wait_s: float = 600.0,
    on_progress: OnProgress = ignore_progress,
) -> Tenant:
    """Create a tenant and return it, active.

    `tenant_id` is derived from `name` unless given, or numbered ("tenant-1") if nothing can be derived; `server_name`
    names a `DatabaseServer`; without it, the default one is used. If an earlier creation with the same name and id was
    interrupted, it is finished instead. On failure, everything created so far is removed. Waits up to `fleet_wait_s`
    seconds for a batch to end, and as long again for another creation with a numbered id to end.
    Raises `InvalidTenant`, `TenantExists`, `TenantBusy`, `FleetBusy`, `FleetUnfinished`, `ServerError`,
    `TenantUnfinished` if something could not be removed, or if the creation of a tenant with this id but another name
    was interrupted, or `TenantError` if that other creation with a numbered id does not end in time.

    1. record tenant and operation (control database, one transaction); 2. ensure the template exists; 3. create the
    role; 4. clone the database; 5. let the role in; 6. connect as the tenant, and bind identity and audit chain; 7.
    mark the tenant active. Steps 2 to 7 can each be repeated.
    """
    name = clean_name(name)
    chosen = id_from_name(name) if tenant_id is None else validate_id(tenant_id)
    with fleet_shared(wait_s=fleet_wait_s), _locked_id(chosen, name, fleet_wait_s) as new_id:
        unfinished = _unfinished(new_id, name)
        server = unfinished[0].server if unfinished else server_for_new_tenant(server_name)
        assert server is not None  # a tenant that we provision always has one
        identity = unfinished[0].identity if unfinished else uuid.uuid4()
        with ServerSession(server, database_prefix(), work_name(KIND, identity)) as server_session:
            server_session.require_needed()
            tenant, operation = unfinished or _begin(server_session, new_id, name, identity)
            if unfinished:
                server_session.end_predecessors()
            provision_or_undo(server_session, tenant, operation, on_progress)
    return tenant_get(new_id)


@contextmanager
def _locked_id(chosen: str | None, name: str, wait_s: float) -> Iterator[str]:
    """Lock the chosen id, or the next numbered one; no two creations pick a number at the same time."""
    if chosen is not None:
        with tenant_lock(chosen):
            yield chosen
        return
    with advisory_lock("seo-gen:numbered-id", wait_s=wait_s, busy=_numbering):
        new_id = _next_id(name)
        with tenant_lock(new_id):
            yield new_id


def _numbering() -> TenantError:
    return TenantError(
        _("Another tenant with a numbered id is being created."),
        hint=_("Wait for it to finish, or choose an id yourself."),
        code="tenant_create_busy",
    )


def _next_id(name: str) -> str:
    """Return a numbered id that no tenant has or ever had, or the id of an interrupted creation with this name."""
    begun = operations_unfinished().filter(kind=KIND).values("tenant_id")
    again = Tenant.objects.using(CONTROL).filter(name=name, pk__in=begun).values_list("pk", flat=True).first()
    # Erased tenants keep their rows, so no id is ever reused.
    return again or next(numbered_ids(Tenant.objects.using(CONTROL).values_list("pk", flat=True)))


def provision_or_undo(
    server_session: ServerSession, tenant: Tenant, operation: TenantOperation, on_progress: OnProgress
) -> None:
    """Finish the creation; on failure, remove everything that was created, and re-raise the error.

    If the removal fails too (say, because the server went down), raise `TenantUnfinished`; the record stays for
    `tenant_recover`.
    """
    try:
        template = _provision(server_session, tenant, on_progress)
        _activate(tenant, operation, template)
    except BaseException as failure:
        try:
            undo(server_session, tenant, operation, failure)
        except Exception as error:
            raise TenantUnfinished(tenant.id, KIND) from error
        raise
    on_progress(Progress(tenant.id, "active"))


def undo(server_session: ServerSession, tenant: Tenant, operation: TenantOperation, failure: BaseException) -> None:
    """Remove the tenant's database, role and row; its id may be reused, since no customer ever had it."""
    location = parse_location(tenant.database_url)
    server_session.drop_database(location.database)
    server_session.drop_role(location.role)
    with transaction.atomic(using=CONTROL):
        Tenant.objects.using(CONTROL).filter(pk=tenant.pk, status=TenantStatus.PROVISIONING).delete()
        reason = str(failure) if isinstance(failure, SeoGenError) else failure_reason(failure)
        operation_end(operation, OperationStatus.UNDONE, error=reason)
        audit(operation, "tenant.create.undo", **_details(tenant))


def _unfinished(tenant_id: str, name: str) -> tuple[Tenant, TenantOperation] | None:
    """Return the interrupted creation of this tenant, or None if the id is free.

    Raises `TenantExists` or `TenantUnfinished` if the id is taken.
    """
    tenant = Tenant.objects.using(CONTROL).select_related("server").filter(pk=tenant_id).first()
    if tenant is None:
        return None
    operation = operations_unfinished().filter(tenant_id=tenant_id, kind=KIND).first()
    if operation is not None and tenant.name == name:
        return tenant, operation
    if operation is not None:
        raise TenantUnfinished(tenant_id, KIND)
    if tenant.status == TenantStatus.DELETED:
        raise TenantExists(
            _("The id %(id)s belonged to an erased tenant and cannot be reused.") % {"id": tenant_id},
            hint=_("Choose another id with --id."),
            code="tenant_id_erased",
        )
    raise TenantExists(
        _("Tenant %(id)s already exists (%(status)s).") % {"id": tenant_id, "status": tenant.get_status_display()},
        hint=_("Choose another id with --id."),
    )


def _begin(
    server_session: ServerSession, tenant_id: str, name: str, identity: uuid.UUID
) -> tuple[Tenant, TenantOperation]:
    """Record the tenant with its future credentials, and the operation, before anything is created; return both."""
    location = server_session.location(database_name(database_prefix()), secrets.token_urlsafe(32))
    tenant = Tenant(
        id=tenant_id,
        name=name,
        database_url=location.url,
        server=server_session.server,
        identity=identity,
        status=TenantStatus.PROVISIONING,
    )
    try:
        with transaction.atomic(using=CONTROL):
            tenant.save(using=CONTROL, force_insert=True)
            operation = operation_begin(tenant_id=tenant_id, kind=KIND)
            audit(operation, "tenant.create", **_details(tenant))
    except IntegrityError as error:
        if "tenants_name_is_unique" not in str(error):
            raise
        raise TenantExists(
            _("Another tenant is already named %(name)r (case is ignored).") % {"name": name},
            hint=_("Choose another name."),
            code="tenant_name_taken",
        ) from error
    return tenant, operation


def _provision(server_session: ServerSession, tenant: Tenant, on_progress: OnProgress) -> str:
    """Create the role and the database, bind the identity, and return the name of this release's template."""
    location = parse_location(tenant.database_url)
    on_progress(Progress(tenant.id, "template"))
    template = ensure_template(server_session, database_prefix())
    on_progress(Progress(tenant.id, "role"))
    server_session.ensure_login(location.role, location.password)
    on_progress(Progress(tenant.id, "database"))
    if not server_session.database_exists(location.database):
        server_session.clone(template, location.database)
    on_progress(Progress(tenant.id, "access"))
    server_session.open_to(location.database, location.role)
    on_progress(Progress(tenant.id, "identity"))
    bind_identity(tenant, current_actor())
    return template


def _activate(tenant: Tenant, operation: TenantOperation, template: str) -> None:
    with transaction.atomic(using=CONTROL):
        Tenant.objects.using(CONTROL).filter(pk=tenant.pk).update(
            status=TenantStatus.ACTIVE,
            schema_version=template_version(tenant.server_id, template),
            schema_drift=[],
            schema_checked_at=Now(),
        )
        operation_end(operation, OperationStatus.COMPLETED)
        audit(operation, "tenant.activate", **_details(tenant))


def _details(tenant: Tenant) -> dict[str, object]:
    return {"identity": str(tenant.identity), "server": tenant.server_id}
