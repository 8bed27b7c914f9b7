"""Verify a loaded database, as the guest that loaded it. Until then, nothing in the database is trusted.

Everything happens in one read-only transaction with only pg_catalog in the search path
(`audit.log.safe_search_path`). The catalog is checked before any rows are read, except for the tenant's identity and
the migration history: unless the source is our own, the other rows are read only if every object in the database is one
that our migrations create.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import Error
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from audit.log.chain_check import ChainHead, chain_first_bad, chain_head
from audit.log.safe_search_path import catalog_only
from tenants.app_hooks import contents
from tenants.errors import reason_of
from tenants.models import SchemaReference, Tenant
from tenants.restore.scratch_database import Scratch
from tenants.restore.sources import Source, Unfit, UnknownHistory
from tenants.routing.owner_connection import guest_connection
from tenants.schema.catalog import catalog_read, differences, named, schema_part
from tenants.schema.reference import history_read
from tenants.schema.rehearsal import reference_for
from tenants.schema.releases import Release
from tenants.schema.row_counts import Census, census_take, owner_of

# Kinds of objects that none of our migrations create, by PostgreSQL's name for them.
STRANGERS = """
SELECT kind, count(*) FROM (
    SELECT 'operator' FROM pg_catalog.pg_operator WHERE oid >= 16384::oid
    UNION ALL SELECT 'cast' FROM pg_catalog.pg_cast WHERE oid >= 16384::oid
    UNION ALL SELECT 'collation' FROM pg_catalog.pg_collation WHERE oid >= 16384::oid
    UNION ALL SELECT 'conversion' FROM pg_catalog.pg_conversion WHERE oid >= 16384::oid
    UNION ALL SELECT 'operator class' FROM pg_catalog.pg_opclass WHERE oid >= 16384::oid
    UNION ALL SELECT 'operator family' FROM pg_catalog.pg_opfamily WHERE oid >= 16384::oid
    UNION ALL SELECT 'access method' FROM pg_catalog.pg_am WHERE oid >= 16384::oid
    UNION ALL SELECT 'language' FROM pg_catalog.pg_language WHERE oid >= 16384::oid
    UNION ALL SELECT 'transform' FROM pg_catalog.pg_transform
    UNION ALL SELECT 'extension' FROM pg_catalog.pg_extension WHERE oid >= 16384::oid
    UNION ALL SELECT 'foreign server' FROM pg_catalog.pg_foreign_server
    UNION ALL SELECT 'foreign data wrapper' FROM pg_catalog.pg_foreign_data_wrapper
    UNION ALL SELECT 'publication' FROM pg_catalog.pg_publication
    UNION ALL SELECT 'event trigger' FROM pg_catalog.pg_event_trigger
    UNION ALL SELECT 'policy' FROM pg_catalog.pg_policy
    UNION ALL SELECT 'rule' FROM pg_catalog.pg_rewrite WHERE oid >= 16384::oid AND rulename <> '_RETURN'
    UNION ALL SELECT 'inherited table' FROM pg_catalog.pg_inherits
    UNION ALL SELECT 'text search object' FROM pg_catalog.pg_ts_config WHERE oid >= 16384::oid
    UNION ALL SELECT 'text search object' FROM pg_catalog.pg_ts_dict WHERE oid >= 16384::oid
    UNION ALL SELECT 'text search object' FROM pg_catalog.pg_ts_parser WHERE oid >= 16384::oid
    UNION ALL SELECT 'text search object' FROM pg_catalog.pg_ts_template WHERE oid >= 16384::oid
    UNION ALL SELECT 'extended statistics' FROM pg_catalog.pg_statistic_ext
    UNION ALL SELECT 'default privilege' FROM pg_catalog.pg_default_acl
    UNION ALL SELECT 'large object' FROM pg_catalog.pg_largeobject_metadata
) AS found (kind) GROUP BY kind ORDER BY kind
"""


@dataclass(frozen=True)
class Expected:
    """What is required of the loaded database: whose it must be, and whether schema drift is accepted."""

    tenant_id: str
    identity: UUID
    # The identity with which the tenant's audit chain started.
    chain_identity: UUID
    # The fleet's schema version; "" if unknown. An older backup is migrated to it.
    fleet_version: str
    # Whether schema drift is accepted; only for our own sources. See `prove` for what the manifest must record.
    admits_drift: bool = False

    @classmethod
    def of(cls, tenant: Tenant, source: Source, *, fleet_version: str | None = None) -> Expected:
        """Return what the tenant's own data must match; `fleet_version` defaults to the tenant's version."""
        return cls(
            tenant_id=tenant.id,
            identity=tenant.identity,
            chain_identity=tenant.chain_identity or tenant.identity,
            fleet_version=tenant.schema_version if fleet_version is None else fleet_version,
            admits_drift=source.is_ours,
        )


@dataclass(frozen=True)
class Proven:
    """The result of a successful verification."""

    census: Census
    # The schema that the database's migration history produces.
    reference: SchemaReference
    # Accepted objects of kinds that the schema fingerprint does not cover.
    strangers: list[str]


def prove(scratch: Scratch, source: Source, expected: Expected, code: Release, work: str) -> Proven:
    """Verify the scratch database and return what it contains; raise `Unfit` if a check fails.

    The checks are: 1. no object is of a kind that migrations never create; 2. the tenant is the right one; 3. the
    migration history is known; 4. the schema matches the history; 5. row counts (if there is a manifest), audit chain
    and paths are correct. For our own sources, 1 and 4 accept drift, and paths are not checked. If there is a manifest,
    4 accepts drift only if the manifest records some. It cannot record the objects of 1, which the schema's fingerprint
    does not cover.
    """
    try:
        with _reading(scratch, work) as connection:
            strangers = _strangers(connection)
            if strangers and not expected.admits_drift:
                raise Unfit(
                    _("The dump contains objects that no migration creates: %(objects)s.")
                    % {"objects": named(strangers)},
                    code="backup_holds_foreign_objects",
                )
            _require_identity(owner_of(connection), expected)
            history = history_read(connection)
            if problem := code.problem(history):
                raise UnknownHistory(problem)
            reference = reference_for(
                scratch.server_session.server, scratch.server_session.major_version, history, code, work
            )
            found = differences(schema_part(reference.catalog), schema_part(catalog_read(connection)))
            require_drift_accepted(found, source, expected)
            census = census_take(connection)
            assert census is not None  # `owner_of` has found the tables
            _require_rows(connection, census, source, expected)
            return Proven(census, reference, strangers)
    except Error as error:
        raise Unfit(_("The restored data cannot be read: %(reason)s.") % {"reason": reason_of(error)}) from error


def require_drift_accepted(drift: list[str], source: Source, expected: Expected) -> None:
    """Raise `Unfit` if there is drift, unless the source is our own and its manifest, if any, records drift too."""
    if drift and not (expected.admits_drift and (source.manifest is None or source.manifest.drift)):
        raise Unfit(
            _("The dump's schema differs from what its migrations create: %(differences)s.")
            % {"differences": named(drift)},
            code="backup_schema_differs",
        )


@contextmanager
def _reading(scratch: Scratch, work: str) -> Iterator[BaseDatabaseWrapper]:
    with (
        guest_connection(scratch.url, scratch.database, work) as connection,
        transaction.atomic(using=connection.alias),
    ):
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        with catalog_only(connection):
            yield connection


def _strangers(connection: BaseDatabaseWrapper) -> list[str]:
    with catalog_only(connection), connection.cursor() as cursor:
        cursor.execute(STRANGERS)
        return [f"{kind} ({count})" for kind, count in cursor.fetchall()]


def _require_identity(owner: tuple[str, UUID] | None, expected: Expected) -> None:
    if owner is None:
        raise Unfit(
            _("The dump does not contain a tenant's database, or its tables cannot be read safely."),
            code="backup_not_recognized",
        )
    tenant_id, identity = owner
    if tenant_id != expected.tenant_id:
        raise Unfit(_("The dump belongs to tenant %(other)s.") % {"other": tenant_id}, code="backup_of_another_tenant")
    if identity != expected.identity:
        raise Unfit(
            _("The dump belongs to another tenant with the same id (identity %(found)s, not %(wanted)s).")
            % {"found": identity, "wanted": expected.identity},
            code="backup_of_another_tenant",
        )


def _require_rows(connection: BaseDatabaseWrapper, census: Census, source: Source, expected: Expected) -> None:
    _require_counts(census, source)
    _require_chain(connection, census, source, expected)
    if not expected.admits_drift:
        _require_paths(connection, expected)


def _require_counts(census: Census, source: Source) -> None:
    if source.manifest is None:
        return
    wanted = source.manifest.rows
    for table in sorted(wanted.keys() | census.rows.keys()):
        if table not in wanted:
            raise Unfit(_("The manifest does not list table %(table)s.") % {"table": table})
        if table not in census.rows:
            raise Unfit(_("The manifest lists table %(table)s, which does not exist.") % {"table": table})
        if wanted[table] != census.rows[table]:
            raise Unfit(
                ngettext(
                    "Table %(table)s has %(found)d row, but the manifest says %(wanted)d.",
                    "Table %(table)s has %(found)d rows, but the manifest says %(wanted)d.",
                    census.rows[table],
                )
                % {"table": table, "found": census.rows[table], "wanted": wanted[table]}
            )


def _require_chain(connection: BaseDatabaseWrapper, census: Census, source: Source, expected: Expected) -> None:
    bad = chain_first_bad(connection, expected.chain_identity)
    if bad is not None:
        raise Unfit(_("The restored audit log is broken at entry %(sequence)d.") % {"sequence": bad})
    head = chain_head(connection)
    if census.audit.sequence and head != census.audit:
        raise Unfit(_("The restored audit log does not end where its chain head says."))
    manifest = source.manifest
    if manifest and ChainHead(manifest.audit.sequence, manifest.audit.hash) != census.audit:
        raise Unfit(_("The restored audit log does not end where the manifest says."))


def _require_paths(connection: BaseDatabaseWrapper, expected: Expected) -> None:
    """Require that rows refer only to the tenant's own files.

    Our own backups are exempt; for them, the report lists such a file as missing (`tenants.restore.reconcile`). If they
    were checked too, anyone who can write to a tenant's tables could make its backups impossible to restore.
    """
    found = contents().foreign_path(connection, expected.tenant_id)
    if found is not None:
        raise Unfit(
            _("Row %(row)s of table %(table)s refers to %(path)r, which does not belong to the tenant.")
            % {"table": found.table, "row": found.row, "path": found.path}
        )
