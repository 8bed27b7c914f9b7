"""Inspect tenants: whether each is reachable and has its identity, its applied migrations, and its schema's state."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from django.db.utils import Error
from django.utils.translation import gettext as _

from audit.log.safe_search_path import catalog_only
from tenants.errors import MigrationFailed, ServerError, TenantWithoutServer, reason_of
from tenants.models import DatabaseServer, Tenant, database_prefix
from tenants.parallel import in_parallel
from tenants.routing.owner_connection import owner_connection
from tenants.routing.router import TENANT_APPS
from tenants.schema.catalog import STAMP, catalog_fingerprint
from tenants.schema.reference import major_version
from tenants.schema.releases import History
from tenants.schema.row_counts import LARGE_OBJECTS
from tenants.servers.session import Door, ServerSession, parse_location

# The identity, the applied migrations, and whether the schema has been touched since: all in one round trip.
LOOK = f"""
SELECT (SELECT jsonb_build_array(tenant_id, identity) FROM public.tenant_identity),
       ARRAY(SELECT jsonb_build_array(app, name) FROM public.django_migrations WHERE app = ANY(%s)),
       ({STAMP}),
       ({LARGE_OBJECTS})
"""


@dataclass(frozen=True)
class Look:
    """What was found in a tenant's database."""

    tenant: Tenant
    server: DatabaseServer
    database: str
    # PostgreSQL's major version.
    server_version: int
    history: History
    # sha256 of the schema, and the stamp of the catalog's rows that it was computed from.
    fingerprint: str
    stamp: str
    # Capped at LARGE_OBJECTS_MOST (`tenants.schema.row_counts`).
    large_objects: int


def look_at(
    tenants: Sequence[Tenant], *, work: str, workers: int, on_look: Callable[[str], None] = lambda tenant_id: None
) -> tuple[list[Look], list[MigrationFailed | TenantWithoutServer | ServerError]]:
    """Inspect every tenant; return what was found, and all problems, not only the first.

    Asks each server once who may connect to which database, then connects, as the owner, to each database whose access
    is in order. `work` becomes part of the sessions' names. `on_look` is called with a tenant's id after each attempt
    to connect, successful or not; not for tenants whose problem was found before that. Raises `ServerError` if the
    owner has no login on a server.
    """
    problems: list[MigrationFailed | TenantWithoutServer | ServerError] = []
    reachable: list[Tenant] = []
    for server, of_server in _by_server(tenants, problems):
        try:
            doors = _doors(server, of_server, work)
        except ServerError as error:
            problems.append(error)
            continue
        for tenant in of_server:
            closed = _closed(doors.get(database_of(tenant)), tenant)
            if closed:
                problems.append(MigrationFailed(tenant.id, closed))
            else:
                reachable.append(tenant)
    looks = []
    for tenant, found in in_parallel(lambda tenant: look_into(tenant, work=work), reachable, workers):
        on_look(tenant.id)
        if isinstance(found, Look):
            looks.append(found)
        elif isinstance(found, MigrationFailed):
            problems.append(found)
        else:
            raise found
    return sorted(looks, key=lambda look: look.tenant.id), problems


def look_into(tenant: Tenant, *, work: str) -> Look:
    """Inspect one tenant's database as its owner.

    Raises `MigrationFailed` if that fails or the database is not this tenant's, and `ServerError` if the owner has no
    login on the server.
    """
    server = tenant.server
    assert server is not None  # checked in `look_at`
    database = database_of(tenant)
    try:
        with owner_connection(server, database, work) as connection:
            with catalog_only(connection), connection.cursor() as cursor:
                cursor.execute(LOOK, [sorted(TENANT_APPS)])
                identity, applied, stamp, large_objects = cursor.fetchone()
            _require_identity(json.loads(identity or "[]"), tenant)
            history = frozenset((app, name) for app, name in map(json.loads, applied))
            untouched = stamp == tenant.schema_stamp
            fingerprint = tenant.schema_fingerprint if untouched else catalog_fingerprint(connection)
            return Look(tenant, server, database, major_version(connection), history, fingerprint, stamp, large_objects)
    except Error as error:
        raise unusable(tenant.id, error) from error


def unusable(tenant_id: str, error: Error) -> MigrationFailed:
    return MigrationFailed(tenant_id, _("Its database cannot be used: %(reason)s.") % {"reason": reason_of(error)})


def database_of(tenant: Tenant) -> str:
    return parse_location(tenant.database_url).database


def _by_server(
    tenants: Sequence[Tenant], problems: list[MigrationFailed | TenantWithoutServer | ServerError]
) -> Iterator[tuple[DatabaseServer, list[Tenant]]]:
    by_server: dict[DatabaseServer, list[Tenant]] = defaultdict(list)
    for tenant in tenants:
        if tenant.server is None:
            problems.append(TenantWithoutServer(tenant.id))
        else:
            by_server[tenant.server].append(tenant)
    yield from by_server.items()


def _doors(server: DatabaseServer, tenants: Sequence[Tenant], work: str) -> dict[str, Door]:
    with ServerSession(server, database_prefix(), work) as server_session:
        return server_session.doors([database_of(tenant) for tenant in tenants])


def _closed(door: Door | None, tenant: Tenant) -> str:
    """Return what is wrong with access to the database, or ""."""
    if door is None:
        problem = _("Its database %(database)s does not exist on server %(server)s.")
    elif not door.is_open:
        problem = _("Its database %(database)s accepts no connections.")
    elif not door.has_login:
        problem = _("Its role %(database)s does not exist or cannot log in.")
    elif not door.may_connect:
        problem = _("Its role %(database)s is not allowed to connect to its database.")
    elif not door.in_group:
        problem = _("Its role %(database)s lacks the privileges of the tenants' group role.")
    elif door.others:
        problem = _("Its database is also open to %(others)s.")
    else:
        return ""
    others = ", ".join(door.others) if door else ""
    return problem % {"database": database_of(tenant), "server": tenant.server_id, "others": others}


def _require_identity(found: list[str], tenant: Tenant) -> None:
    if found != [tenant.id, str(tenant.identity)]:
        raise MigrationFailed(
            tenant.id,
            (
                _("Database %(database)s does not belong to this tenant: it contains no tenant's identity.")
                if not found
                else _("Database %(database)s belongs to another tenant that has the same id.")
                if found[0] == tenant.id
                else _("Database %(database)s belongs to another tenant (tenant id: %(owner)s).")
            )
            % {"database": database_of(tenant), "owner": found[0] if found else ""},
            code="tenant_identity_mismatch",
        )
