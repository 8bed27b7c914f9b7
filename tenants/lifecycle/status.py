"""The status of tenants: what the control database knows and, on request, whether their databases are healthy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import uuid4

from django.db import connections
from django.db.utils import Error
from django.utils.translation import gettext as _

from audit.log.safe_search_path import catalog_only
from config.base.databases import CONTROL
from config.base.errors import joined
from tenants.errors import (
    FleetBusy,
    FleetUnfinished,
    MigrationFailed,
    ServerError,
    TenantError,
    TenantUnreachable,
    TenantWithoutServer,
    reason_of,
)
from tenants.fleet.batch import fleet_shared
from tenants.models import Tenant, TenantStatus
from tenants.parallel import in_parallel
from tenants.routing.context import tenant_context
from tenants.schema.catalog import named
from tenants.schema.drift import drift_of, group, note_schemas
from tenants.schema.inspection import Look, database_of, look_at
from tenants.schema.releases import Release, release
from tenants.schema.row_counts import LARGE_OBJECTS_MOST
from tenants.selectors import batches_unfinished, operations_unfinished, tenant_get, tenants_existing
from tenants.servers.foreign_transactions import foreign_beside_control, foreign_on, sentence
from tenants.servers.role_changes import role_changes

CONNECTABLE = (TenantStatus.ACTIVE, TenantStatus.SUSPENDED)
WORKERS = 8


@dataclass(frozen=True)
class TenantHealth:
    id: str
    status: str
    server: str | None
    # The newest migration of each tenant app, when last checked; "" if never checked.
    schema_version: str
    # "current", "behind", "ahead" or "unknown": that version compared with this code's.
    schema_state: str
    # How its schema differs from what those migrations create; None if never compared.
    drift: list[str] | None
    schema_checked_at: datetime | None
    # Whether the tenant's own role reached a database with the tenant's identity; None if not checked.
    reachable: bool | None
    size_bytes: int | None
    # The kind of an unfinished operation.
    unfinished_operation: str | None
    # What is wrong, as sentences; None if nothing is.
    problem: str | None
    # How many large objects its database contains, which backups do not include; None if not checked.
    large_objects: int | None = None
    # What was changed about its role (`tenants.servers.role_changes`); None if not checked.
    role_changes: list[str] | None = None


@dataclass(frozen=True)
class Checked:
    """The results of checking one tenant's database and server. What could not be checked is None."""

    size: int | TenantError | None = None
    look: Look | None = None
    # What is wrong with its schema or with access to it.
    problem: str | None = None
    role_changes: list[str] | None = None


def tenant_statuses(*, tenant_id: str | None = None, check: bool = False) -> list[TenantHealth]:
    """Return the health of each existing tenant, or of the named one. Raises `UnknownTenant`; poor health is no error.

    With `check`, connect to each that is active or suspended, several at a time: as the tenant, to prove that its
    database can be reached, and as the owner, to compare its schema and store the result. The comparison is skipped
    while a batch is running or unfinished, since it would wait for the batch's locks. Also look for changes to the
    tenants' roles. With or without `check`, prepared transactions that are not seo-gen's count as problems
    (`_with_prepared`).
    """
    tenants = _tenants(tenant_id)
    checked: dict[str, Checked] = {}
    code = release()
    if check:
        connectable = [tenant for tenant in tenants if tenant.status in CONNECTABLE]
        checked = _check(connectable, code)
        tenants = _tenants(tenant_id)
    unfinished = _unfinished()
    health = [_health(tenant, code, checked.get(tenant.id, Checked()), unfinished) for tenant in tenants]
    return _with_prepared(health, tenants, check=check)


def _with_prepared(health: list[TenantHealth], tenants: Sequence[Tenant], *, check: bool) -> list[TenantHealth]:
    """Add a warning to each tenant whose database has prepared transactions that are not seo-gen's.

    Without `check`, only the control database's server is asked; with it, the tenants' servers are.
    """
    servers = {tenant.server for tenant in tenants if tenant.server}
    foreign = foreign_on(servers) if check else foreign_beside_control()
    found: dict[str, list[str]] = defaultdict(list)
    for one in foreign:
        found[one.database].append(sentence(one))
    if not found:
        return health
    by_id = {tenant.id: found.get(database_of(tenant), []) for tenant in tenants}
    return [replace(one, problem=joined(one.problem or "", *by_id[one.id])) if by_id[one.id] else one for one in health]


def _tenants(tenant_id: str | None) -> list[Tenant]:
    return [tenant_get(tenant_id)] if tenant_id else list(tenants_existing())


def _unfinished() -> dict[str, str]:
    unfinished = {operation.tenant_id: operation.kind for operation in operations_unfinished()}
    for batch in batches_unfinished():
        unfinished.update(dict.fromkeys(batch.tenants.values_list("tenant_id", flat=True), batch.kind))
    return unfinished


def _check(tenants: Sequence[Tenant], code: Release) -> dict[str, Checked]:
    sizes = _sizes(tenants)
    looks, problems = _compare(tenants, code)
    changes = role_changes(tenants)
    return {
        tenant.id: Checked(sizes.get(tenant.id), looks.get(tenant.id), problems.get(tenant.id), changes.get(tenant.id))
        for tenant in tenants
    }


def _health(tenant: Tenant, code: Release, checked: Checked, unfinished: dict[str, str]) -> TenantHealth:
    size = checked.size
    return TenantHealth(
        id=tenant.id,
        status=tenant.status,
        server=tenant.server_id,
        schema_version=tenant.schema_version,
        schema_state=code.state_of(tenant.schema_version).value,
        drift=tenant.schema_drift,
        schema_checked_at=tenant.schema_checked_at,
        reachable=None if size is None else isinstance(size, int),
        size_bytes=size if isinstance(size, int) else None,
        unfinished_operation=unfinished.get(tenant.id),
        problem=joined(*_problems(tenant, checked)) or None,
        large_objects=checked.look.large_objects if checked.look else None,
        role_changes=checked.role_changes,
    )


def _problems(tenant: Tenant, checked: Checked) -> Iterator[str]:
    """Yield a sentence for each thing that is wrong."""
    subject = {"id": tenant.id}
    if isinstance(checked.size, TenantError):
        yield str(checked.size)
        if isinstance(checked.size, TenantUnreachable) and checked.look:
            yield (
                _(
                    "The owner can use the database. `seo-gen tenant rotate --tenant-id %(id)s` resets the tenant's"
                    " role and its password."
                )
                % subject
            )
    elif checked.problem:
        yield checked.problem
    elif tenant.schema_drift:
        yield _("Its schema differs from what its migrations create: %(differences)s.") % {
            "differences": named(tenant.schema_drift)
        }
    if checked.role_changes:
        yield _(
            "Its role is not as it should be. %(changes)s `seo-gen tenant rotate --tenant-id %(id)s` resets it."
        ) % {
            **subject,
            "changes": joined(*checked.role_changes),
        }
    if checked.look and checked.look.large_objects:
        yield _("Its database contains large objects (%(count)s), which backups leave out.") % {
            "count": _counted(checked.look.large_objects)
        }


def _counted(large_objects: int) -> str:
    return str(large_objects) if large_objects < LARGE_OBJECTS_MOST else f"{LARGE_OBJECTS_MOST}+"


def _sizes(tenants: Sequence[Tenant]) -> dict[str, int | TenantError]:
    """Connect to each database as its tenant's role; return {tenant id: size in bytes, or the error}."""
    found: dict[str, int | TenantError] = {}
    for tenant, outcome in in_parallel(_size_bytes, tenants, WORKERS):
        if isinstance(outcome, BaseException) and not isinstance(outcome, TenantError):
            raise outcome
        found[tenant.id] = outcome
    return found


def _size_bytes(tenant: Tenant) -> int:
    try:
        with (
            tenant_context(tenant, statuses=CONNECTABLE) as alias,
            catalog_only(connections[alias]),
            connections[alias].cursor() as cursor,
        ):
            cursor.execute("SELECT pg_database_size(current_database())")
            size: int = cursor.fetchone()[0]
            return size
    except Error as error:
        # Settings that the role has made for itself, such as a timeout of one millisecond, can break any query.
        raise TenantUnreachable(tenant.id, reason_of(error)) from error
    finally:
        # This thread's own connection.
        connections[CONTROL].close()


def _problems_of(errors: Iterable[Exception]) -> dict[str, str]:
    """Return {tenant id: problem} for the errors that concern one tenant."""
    return {
        error.tenant_id: str(error) for error in errors if isinstance(error, (MigrationFailed, TenantWithoutServer))
    }


def _compare(tenants: Sequence[Tenant], code: Release) -> tuple[dict[str, Look], dict[str, str]]:
    """Compare the tenants' schemas and store the results; return findings and problems, by tenant id.

    Both are empty while a batch is running or unfinished.
    """
    work = f"status {uuid4()}"
    try:
        with fleet_shared(wait_s=1):
            looks, errors = look_at(tenants, work=work, workers=WORKERS)
            try:
                groups = group(looks, code, work=work)
            except ServerError as error:
                problems = {look.tenant.id: str(error) for look in looks}
                return {look.tenant.id: look for look in looks}, problems | _problems_of(errors)
            drift, unread = drift_of(groups, work=work)
            read = [look for look in looks if look.tenant.id not in {error.tenant_id for error in unread}]
            note_schemas(read, code, drift)
    except (FleetBusy, FleetUnfinished):
        return {}, {}
    problems = _problems_of([*errors, *unread])
    for look in looks:
        problem = code.problem(look.history)
        if problem:
            problems[look.tenant.id] = str(MigrationFailed(look.tenant.id, problem))
    return {look.tenant.id: look for look in looks}, problems
