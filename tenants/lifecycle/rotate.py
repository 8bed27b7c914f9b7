"""Give tenants' roles new passwords and reset their limits and settings, for example after a leak."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from django.db import connections, transaction
from django.db.models import F

from config.base.databases import CONTROL
from config.base.errors import SeoGenError
from tenants.errors import TenantNotActive, TenantUnfinished
from tenants.models import OperationStatus, Tenant, TenantOperation, TenantStatus, database_prefix
from tenants.naming import work_name
from tenants.operations import audit, operation_begin, operation_end, tenant_lock
from tenants.parallel import in_parallel
from tenants.selectors import require_finished, tenant_get, tenants_existing
from tenants.servers.session import ServerSession, parse_location, with_password
from tenants.types import OnProgress, Progress, ignore_progress

KIND = "rotate"
ROTATED = (TenantStatus.ACTIVE, TenantStatus.SUSPENDED)
WORKERS = 4
# How long busy sessions are allowed to continue. Workers' transactions never span an LLM call.
GRACE_S = 10.0


@dataclass(frozen=True)
class Rotation:
    """The outcome for one tenant. If `problem` is "", its role has a new password, and the old sessions have ended."""

    tenant_id: str
    problem: str = ""


def tenant_rotate(
    *, tenant_id: str | None, grace_s: float = GRACE_S, on_progress: OnProgress = ignore_progress
) -> list[Rotation]:
    """Give a new password to the role of the named tenant, or of every active or suspended one.

    The role's connection limit and settings are reset too. Sessions that were opened with the old password are ended:
    idle ones within seconds, others when they become idle or after `grace_s` seconds. Prepared transactions of the role
    are rolled back. A `SeoGenError` does not stop the others, and is reported in the tenant's outcome. Raises
    `UnknownTenant`, `TenantWithoutServer`, or `TenantNotActive` if the named tenant is neither active nor suspended.
    """
    tenants = list(tenants_existing().filter(status__in=ROTATED))
    if tenant_id:
        tenants = [tenant_get(tenant_id)]
        _require_role(tenants[0])

    def work(tenant: Tenant) -> None:
        try:
            _rotate(tenant.id, grace_s, on_progress)
        finally:
            # This thread's own connection.
            connections[CONTROL].close()

    rotations = []
    for tenant, failure in in_parallel(work, tenants, WORKERS):
        if failure is not None and not isinstance(failure, SeoGenError):
            raise failure
        rotations.append(Rotation(tenant.id, str(failure or "")))
    return sorted(rotations, key=lambda rotation: rotation.tenant_id)


def recover(operation: TenantOperation, on_progress: OnProgress, _identity_file: str | None) -> None:
    """Finish an interrupted rotation: give the role the new password, which is in the tenant's row."""
    tenant = tenant_get(operation.tenant_id)
    with _session(tenant) as server_session:
        server_session.end_predecessors()
        location = parse_location(tenant.database_url)
        server_session.ensure_login(location.role, location.password)
        _finish(server_session, tenant, operation, GRACE_S, on_progress)


def _rotate(tenant_id: str, grace_s: float, on_progress: OnProgress) -> None:
    """Rotate one tenant's password.

    1. set the new one on the server without committing; 2. record the operation, the URL and the audit entry; 3.
    commit; 4. end the old sessions; 5. roll back the role's prepared transactions; 6. close the operation. Raises
    `TenantUnfinished` if a step after 2 fails.

    Between 2 and 3, for milliseconds, the URL's password is not valid yet: connections are retried
    (`tenants.routing.backend`).
    """
    with tenant_lock(tenant_id):
        require_finished(tenant_id)
        tenant = tenant_get(tenant_id)
        _require_role(tenant)
        role, password = parse_location(tenant.database_url).role, secrets.token_urlsafe(32)
        with _session(tenant) as server_session:
            server_session.require_needed()
            operation: TenantOperation | None = None
            try:
                with server_session.changing_login(role, password):
                    on_progress(Progress(tenant_id, "begin"))
                    operation = _record(tenant, with_password(tenant.database_url, password))
                    on_progress(Progress(tenant_id, "record"))
                on_progress(Progress(tenant_id, "password"))
                _finish(server_session, tenant, operation, grace_s, on_progress)
            except Exception as error:
                if operation is None:
                    raise
                raise TenantUnfinished(tenant_id, KIND) from error


def _record(tenant: Tenant, url: str) -> TenantOperation:
    with transaction.atomic(using=CONTROL):
        operation = operation_begin(tenant_id=tenant.id, kind=KIND)
        tenant.database_url = url
        tenant.connection_version = F("connection_version") + 1
        tenant.save(using=CONTROL, update_fields=["database_url", "connection_version"])
        audit(operation, "tenant.rotate")
    return operation


def _finish(
    server_session: ServerSession, tenant: Tenant, operation: TenantOperation, grace_s: float, on_progress: OnProgress
) -> None:
    """End the old password's sessions, roll back the role's prepared transactions, and close the operation.

    Can be repeated.
    """
    location = parse_location(tenant.database_url)
    server_session.end_old_sessions(location.role, grace_s)
    on_progress(Progress(tenant.id, "sessions"))
    prepared = server_session.roll_back_prepared_of(location.role, location.url)
    on_progress(Progress(tenant.id, "prepared"))
    with transaction.atomic(using=CONTROL):
        operation_end(operation, OperationStatus.COMPLETED)
        audit(operation, "tenant.rotate.complete", prepared_rolled_back=prepared)
    on_progress(Progress(tenant.id, "done"))


def _require_role(tenant: Tenant) -> None:
    if tenant.status not in ROTATED:
        raise TenantNotActive(tenant.id, tenant.status)
    tenant.require_server()


def _session(tenant: Tenant) -> ServerSession:
    assert tenant.server is not None  # a tenant that we rotate has one
    return ServerSession(tenant.server, database_prefix(), work_name(KIND, tenant.identity))
