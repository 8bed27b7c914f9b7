"""Build a tenant's database from a backup beside the live one, and prove that it is what it should be.

Until its schema is proven, it is touched as a guest alone that owns nothing else (`tenants.scratch`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import Error
from django.utils.translation import gettext as _

from audit.chain import ChainHead, chain_first_bad, chain_head
from tenants.catalog import catalog_fingerprint, catalog_read, differences, named
from tenants.census import Census, census_take
from tenants.cluster import Cluster
from tenants.errors import reason_of
from tenants.grants import grant_as
from tenants.history import History, Release, short
from tenants.models import SchemaReference, Tenant
from tenants.owner import guest_connection, owner_connection
from tenants.rehearsal import reference_for, rehearse
from tenants.scratch import Scratch
from tenants.script import Script
from tenants.sources import Source, Unfit

OnStep = Callable[[str], None]

# What no migration of ours makes and the catalog's fingerprint does not look for, by what PostgreSQL calls it.
STRANGERS = """
SELECT kind, count(*) FROM (
    SELECT 'operator' FROM pg_operator WHERE oid >= 16384
    UNION ALL SELECT 'cast' FROM pg_cast WHERE oid >= 16384
    UNION ALL SELECT 'collation' FROM pg_collation WHERE oid >= 16384
    UNION ALL SELECT 'conversion' FROM pg_conversion WHERE oid >= 16384
    UNION ALL SELECT 'operator class' FROM pg_opclass WHERE oid >= 16384
    UNION ALL SELECT 'access method' FROM pg_am WHERE oid >= 16384
    UNION ALL SELECT 'language' FROM pg_language WHERE oid >= 16384
    UNION ALL SELECT 'extension' FROM pg_extension WHERE oid >= 16384
    UNION ALL SELECT 'foreign server' FROM pg_foreign_server
    UNION ALL SELECT 'foreign data wrapper' FROM pg_foreign_data_wrapper
    UNION ALL SELECT 'publication' FROM pg_publication
    UNION ALL SELECT 'event trigger' FROM pg_event_trigger
    UNION ALL SELECT 'policy' FROM pg_policy
    UNION ALL SELECT 'rule' FROM pg_rewrite WHERE oid >= 16384 AND rulename <> '_RETURN'
    UNION ALL SELECT 'text search object' FROM pg_ts_config WHERE oid >= 16384
    UNION ALL SELECT 'text search object' FROM pg_ts_dict WHERE oid >= 16384
    UNION ALL SELECT 'text search object' FROM pg_ts_parser WHERE oid >= 16384
    UNION ALL SELECT 'text search object' FROM pg_ts_template WHERE oid >= 16384
    UNION ALL SELECT 'extended statistics' FROM pg_statistic_ext
    UNION ALL SELECT 'default privilege' FROM pg_default_acl
    UNION ALL SELECT 'large object' FROM pg_largeobject_metadata
) AS found (kind) GROUP BY kind ORDER BY kind
"""


@dataclass(frozen=True)
class Expected:
    """Whose database it must be, and how far it may differ."""

    tenant_id: str
    identity: UUID
    # The identity that its audit chain began with.
    chain_identity: UUID
    # Which schema version the fleet has, "" where nobody looked yet: an older one is migrated.
    fleet_version: str
    # Whether a drift that was there, by the manifest if there is one, is accepted: the source is known to be ours.
    admits_drift: bool = False

    @classmethod
    def of(cls, tenant: Tenant, source: Source, *, fleet_version: str | None = None) -> Expected:
        """Return what must come of the tenant's own data; the fleet's version is the tenant's unless given."""
        return cls(
            tenant_id=tenant.id,
            identity=tenant.identity,
            chain_identity=tenant.chain_identity or tenant.identity,
            fleet_version=tenant.schema_version if fleet_version is None else fleet_version,
            admits_drift=source.is_ours,
        )


@dataclass(frozen=True)
class Built:
    """What was loaded and found whole; the database is the owner's by now."""

    census: Census
    # Of the schema as it is now.
    version: str
    fingerprint: str
    drift: list[str]
    # Migrations that were applied to bring it forward.
    migrations: list[str]


def build(scratch: Scratch, source: Source, expected: Expected, code: Release, *, work: str, on_step: OnStep) -> Built:
    """Fill the scratch database from `source`; raise `Unfit` or another `TenantError` where it is not as it should be.

    1. load, as the guest; 2. still as the guest: whose it is, its history, its rows, its audit chain; 3. hand it over
    to the owner, grant; 4. the schema must be what its history makes; 5. bring an older one forward.
    """
    _require_server(scratch.cluster, source)
    on_step("load")
    scratch.create()
    source.load_into(scratch.url, scratch.cluster.major_version, work=work)
    on_step("verify")
    census = _verified_rows(scratch, source, expected, code, work)
    scratch.hand_over()
    reference = reference_for(scratch.cluster.server, scratch.cluster.major_version, census.history, code, work)
    fingerprint, drift = _verified_schema(scratch, source, expected, reference, work)
    on_step("migrate")
    script = _pending(reference, census.history, expected, code, work)
    if script is None:
        return Built(census, reference.version, fingerprint, drift, [])
    with owner_connection(scratch.cluster.server, scratch.database, work) as connection:
        connection.set_autocommit(False)
        script.run(connection)
        if not drift and catalog_fingerprint(connection) != script.fingerprint:
            raise Unfit(_("migrated, its schema came out unlike the fleet's"))
        connection.commit()
    return Built(census, code.version, script.fingerprint, drift, script.migrations)


def bring_forward(
    cluster: Cluster, database: str, history: History, code: Release, fleet_version: str, *, work: str
) -> list[str]:
    """Migrate a database of the owner's, such as one that was kept, to the fleet's version; return what was applied."""
    reference = reference_for(cluster.server, cluster.major_version, history, code, work)
    if code.is_complete(history) or reference.version == fleet_version:
        return []
    script = rehearse(reference, history, code, work)
    with owner_connection(cluster.server, database, work) as connection:
        connection.set_autocommit(False)
        script.run(connection)
        connection.commit()
    return script.migrations


def _require_server(cluster: Cluster, source: Source) -> None:
    """A dump of a newer PostgreSQL may hold what an older one does not know."""
    if source.manifest and source.manifest.server_version > cluster.major_version:
        raise Unfit(
            _("it was made on PostgreSQL %(newer)d, and server %(name)s runs %(older)d")
            % {
                "newer": source.manifest.server_version,
                "name": cluster.server.name,
                "older": cluster.major_version,
            }
        )


def _verified_rows(scratch: Scratch, source: Source, expected: Expected, code: Release, work: str) -> Census:
    try:
        with guest_connection(scratch.url, scratch.database, work) as connection:
            census = census_take(connection)
            if census is None:
                raise Unfit(_("it does not hold a tenant's database"))
            _require_identity(census, expected)
            problem = code.problem(census.history)
            if problem:
                raise Unfit(problem)
            _require_counts(census, source)
            _require_chain(connection, census, source, expected)
            return census
    except Error as error:
        raise Unfit(_("what it holds cannot be read: %(reason)s") % {"reason": reason_of(error)}) from error


def _require_identity(census: Census, expected: Expected) -> None:
    if census.tenant_id != expected.tenant_id:
        raise Unfit(_("it is a backup of tenant %(other)s") % {"other": census.tenant_id})
    if census.identity != expected.identity:
        raise Unfit(
            _("it is of another tenant of that name (identity %(found)s, not %(wanted)s)")
            % {"found": census.identity, "wanted": expected.identity}
        )


def _require_counts(census: Census, source: Source) -> None:
    if source.manifest is None:
        return
    wanted = source.manifest.rows
    for table in sorted(wanted.keys() | census.rows.keys()):
        if wanted.get(table) != census.rows.get(table):
            raise Unfit(
                _("table %(table)s has %(found)s rows, and the manifest says %(wanted)s")
                % {"table": table, "found": census.rows.get(table), "wanted": wanted.get(table)}
            )


def _require_chain(connection: BaseDatabaseWrapper, census: Census, source: Source, expected: Expected) -> None:
    bad = chain_first_bad(connection, expected.chain_identity)
    if bad is not None:
        raise Unfit(_("its audit chain is broken at entry %(sequence)d") % {"sequence": bad})
    head = chain_head(connection)
    if census.audit.sequence and head != census.audit:
        raise Unfit(_("its audit log does not end where its chain does"))
    manifest = source.manifest
    if manifest and ChainHead(manifest.audit.sequence, manifest.audit.hash) != census.audit:
        raise Unfit(_("its audit log does not end where the manifest says"))


def _verified_schema(
    scratch: Scratch, source: Source, expected: Expected, reference: SchemaReference, work: str
) -> tuple[str, list[str]]:
    """Grant as the reference has it; return the schema's fingerprint, and the drift that is accepted."""
    with owner_connection(scratch.cluster.server, scratch.database, work) as connection:
        strangers = _strangers(connection)
        if strangers and not expected.admits_drift:
            raise Unfit(_("it holds what no migration makes: %(objects)s") % {"objects": named(strangers)})
        grant_as(connection, reference.catalog)
        fingerprint = catalog_fingerprint(connection)
        if fingerprint == reference.fingerprint:
            return fingerprint, strangers
        drift = strangers + differences(reference.catalog, catalog_read(connection))
    if expected.admits_drift and (source.manifest is None or source.manifest.drift):
        return fingerprint, drift
    raise Unfit(_("its schema is not what its migrations make: %(differences)s") % {"differences": named(drift)})


def _strangers(connection: BaseDatabaseWrapper) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(STRANGERS)
        return [f"{kind} ({count})" for kind, count in cursor.fetchall()]


def _pending(
    reference: SchemaReference, history: History, expected: Expected, code: Release, work: str
) -> Script | None:
    """Return what brings it to the fleet's version, None where it has it."""
    if code.is_complete(history) or reference.version == expected.fleet_version:
        return None
    if expected.fleet_version not in ("", code.version):
        raise Unfit(
            _(
                "it is of another version than the fleet (%(fleet)s), which is behind this code: run"
                " `seo-gen tenant migrate --all` first"
            )
            % {"fleet": short(expected.fleet_version)}
        )
    return rehearse(reference, history, code, work)
