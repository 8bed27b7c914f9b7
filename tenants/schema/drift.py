"""Compare tenants' schemas with what their migrations create, and store the results in the control database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.db import connections, transaction
from django.db.models.functions import Now
from django.db.utils import Error

from config.base.databases import CONTROL
from tenants.errors import MigrationFailed
from tenants.models import DatabaseServer, SchemaReference, Tenant
from tenants.routing.owner_connection import owner_connection
from tenants.schema.catalog import catalog_read, differences
from tenants.schema.inspection import Look, unusable
from tenants.schema.rehearsal import reference_for
from tenants.schema.releases import History, Release

# A single statement, since Django's `bulk_update` takes a millisecond per row.
KEEP_FINGERPRINTS = """
UPDATE tenants SET schema_stamp = seen.stamp, schema_fingerprint = seen.fingerprint
  FROM unnest(%s::text[], %s::text[], %s::text[]) AS seen (id, stamp, fingerprint)
 WHERE tenants.id = seen.id
"""


@dataclass(frozen=True)
class Group:
    """Tenants of one server with the same history: all get the same migrations."""

    server: DatabaseServer
    history: History
    looks: list[Look]
    # The schema that this history creates on the server.
    reference: SchemaReference

    def drift(self, *, work: str) -> tuple[dict[str, list[str]], list[MigrationFailed]]:
        """Return ({tenant id: differences} for schemas that are not the reference's, failures to read a schema)."""
        found: dict[str, list[str]] = {}
        problems = []
        for look in self.looks:
            if look.fingerprint != self.reference.fingerprint:
                try:
                    found[look.tenant.id] = _differences(look, self.reference, work)
                except Error as error:
                    problems.append(unusable(look.tenant.id, error))
        return found, problems


def group(looks: Sequence[Look], release: Release, *, work: str) -> list[Group]:
    """Group the tenants by server and history, leaving out those whose history the release cannot continue."""
    members: dict[tuple[DatabaseServer, History], list[Look]] = defaultdict(list)
    for look in looks:
        if not release.problem(look.history):
            members[look.server, look.history].append(look)
    return [
        Group(server, history, of_group, reference_for(server, of_group[0].server_version, history, release, work))
        for (server, history), of_group in members.items()
    ]


def drift_of(groups: Sequence[Group], *, work: str) -> tuple[dict[str, list[str]], list[MigrationFailed]]:
    """Return the combined `Group.drift` of all groups."""
    found: dict[str, list[str]] = {}
    problems: list[MigrationFailed] = []
    for one in groups:
        of_group, unread = one.drift(work=work)
        found |= of_group
        problems += unread
    return found, problems


def note_schemas(looks: Sequence[Look], release: Release, drift: Mapping[str, list[str]]) -> None:
    """Store each tenant's version, drift and fingerprint; the first two are shown without querying its database."""
    by_version: dict[str, list[str]] = defaultdict(list)
    for look in looks:
        by_version[release.version_of(look.history)].append(look.tenant.id)
    not_compared = [look.tenant.id for look in looks if release.problem(look.history)]
    computed = [look for look in looks if look.stamp != look.tenant.schema_stamp]
    with transaction.atomic(using=CONTROL):
        tenants = Tenant.objects.using(CONTROL)
        for version, ids in by_version.items():
            tenants.filter(pk__in=ids).update(schema_version=version, schema_drift=[], schema_checked_at=Now())
        tenants.filter(pk__in=not_compared).update(schema_drift=None)
        for tenant_id, found in drift.items():
            tenants.filter(pk=tenant_id).update(schema_drift=found)
        with connections[CONTROL].cursor() as cursor:
            columns = [(look.tenant.id, look.stamp, look.fingerprint) for look in computed]
            cursor.execute(KEEP_FINGERPRINTS, [list(column) for column in zip(*columns, strict=True)] or [[], [], []])


def _differences(look: Look, reference: SchemaReference, work: str) -> list[str]:
    with owner_connection(look.server, look.database, work) as connection:
        return differences(reference.catalog, catalog_read(connection))
