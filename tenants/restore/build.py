"""Build a tenant's database from a backup, a bundle or a recovered server, and verify it.

Only the guest role accesses the new database until its schema is verified (`tenants.restore.scratch_database`,
`tenants.restore.proof`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from tenants.models import SchemaReference
from tenants.restore.load_limits import bounded_load
from tenants.restore.proof import Expected, Proven, prove, require_drift_accepted
from tenants.restore.scratch_database import Scratch
from tenants.restore.sources import Source, Unfit
from tenants.routing.owner_connection import owner_connection
from tenants.schema.catalog import catalog_fingerprint, catalog_read, differences
from tenants.schema.grants import grant_as
from tenants.schema.recorded_sql import Script
from tenants.schema.rehearsal import reference_for, rehearse
from tenants.schema.releases import History, Release, SchemaState, short
from tenants.schema.row_counts import Census
from tenants.servers.session import ServerSession

__all__ = ["Built", "Expected", "bring_forward", "build"]

OnStep = Callable[[str], None]


@dataclass(frozen=True)
class Built:
    """What `build` has loaded, verified, handed over to the owner and migrated."""

    census: Census
    # The state of the schema after all steps.
    version: str
    fingerprint: str
    drift: list[str]
    # The migrations that were applied to bring it up to date.
    migrations: list[str]


def build(scratch: Scratch, source: Source, expected: Expected, code: Release, *, work: str, on_step: OnStep) -> Built:
    """Fill the scratch database from `source` and verify it; raise `Unfit` or another `TenantError` on failure.

    1. refuse a dump from a newer PostgreSQL version; 2. load it as the guest, within limits; 3. end the sessions that
    it left behind, and refuse it if it left prepared transactions; 4. verify the database as the guest (`prove`);
    5. hand it over to the owner and grant privileges; 6. migrate it if its schema is older than the fleet's or, if the
    fleet's version is not given, than this code's.
    """
    _require_server(scratch.server_session, source)
    on_step("load")
    scratch.create()
    with bounded_load(scratch, source.dump_bytes) as guard:
        source.load_into(scratch, guard, work=work)
    prepared = scratch.settle()
    if prepared:
        raise Unfit(
            ngettext(
                "Loading the dump left %(count)d prepared transaction behind.",
                "Loading the dump left %(count)d prepared transactions behind.",
                prepared,
            )
            % {"count": prepared},
            code="backup_has_prepared_transactions",
        )
    on_step("verify")
    proven = prove(scratch, source, expected, code, work)
    scratch.hand_over()
    fingerprint, drift = _granted(scratch, source, expected, proven, work)
    on_step("migrate")
    script = _pending(proven.reference, proven.census.history, expected.fleet_version, code, work)
    if script is None:
        return Built(proven.census, proven.reference.version, fingerprint, drift, [])
    with owner_connection(scratch.server_session.server, scratch.database, work) as connection:
        connection.set_autocommit(False)
        # Check again in this transaction, because here the search path includes "public".
        if catalog_fingerprint(connection) != fingerprint:
            raise Unfit(_("The new database's schema changed while it was being built."), code="backup_schema_differs")
        script.run(connection)
        if not drift and catalog_fingerprint(connection) != script.fingerprint:
            raise Unfit(
                _("After migration, the new database's schema differs from what its migrations create."),
                code="backup_schema_differs",
            )
        connection.commit()
    return Built(proven.census, code.version, script.fingerprint, drift, script.migrations)


def bring_forward(
    server_session: ServerSession, database: str, history: History, code: Release, fleet_version: str, *, work: str
) -> list[str]:
    """Migrate a kept database, which the owner already owns, to this code's version; return the applied migrations.

    Does nothing if the database already has that version or the tenant's. Raises what `_pending` does.
    """
    reference = reference_for(server_session.server, server_session.major_version, history, code, work)
    script = _pending(reference, history, fleet_version, code, work)
    if script is None:
        return []
    with owner_connection(server_session.server, database, work) as connection:
        connection.set_autocommit(False)
        script.run(connection)
        connection.commit()
    return script.migrations


def _require_server(server_session: ServerSession, source: Source) -> None:
    """Refuse a dump from a newer PostgreSQL version, since it may use features that this server lacks."""
    if source.manifest and source.manifest.server_version > server_session.major_version:
        raise Unfit(
            _("The dump was made on PostgreSQL %(newer)d, but server %(name)s runs PostgreSQL %(older)d.")
            % {
                "newer": source.manifest.server_version,
                "name": server_session.server.name,
                "older": server_session.major_version,
            },
            code="server_version_older",
        )


def _granted(scratch: Scratch, source: Source, expected: Expected, proven: Proven, work: str) -> tuple[str, list[str]]:
    """Grant the same privileges as in the reference schema; return the schema fingerprint and the accepted drift."""
    reference = proven.reference
    with owner_connection(scratch.server_session.server, scratch.database, work) as connection:
        grant_as(connection, reference.catalog)
        fingerprint = catalog_fingerprint(connection)
        if fingerprint == reference.fingerprint:
            return fingerprint, proven.strangers
        drift = differences(reference.catalog, catalog_read(connection))
    require_drift_accepted(drift, source, expected)
    return fingerprint, proven.strangers + drift


def _pending(
    reference: SchemaReference, history: History, fleet_version: str, code: Release, work: str
) -> Script | None:
    """Return the script that migrates the database to this code's version; None if it has that or the fleet's already.

    Otherwise raises `Unfit` if the fleet's version is known and is not this code's.
    """
    if code.is_complete(history) or reference.version == fleet_version:
        return None
    if code.state_of(fleet_version) == SchemaState.AHEAD:
        raise Unfit(
            _(
                "The tenant's schema version (%(version)s) is ahead of this code, which cannot migrate the restored"
                " data to it."
            )
            % {"version": short(fleet_version)},
            hint=_("Use the release that the tenant was migrated with."),
            code="release_outdated",
        )
    if fleet_version not in ("", code.version):
        raise Unfit(
            _("The source's schema version differs from the tenant's (%(version)s), which is behind this code.")
            % {"version": short(fleet_version)},
            hint=_("Run `seo-gen tenant migrate --all` first."),
            page_hint=_("Migrate all tenants first, under “Fleet”."),
            code="fleet_outdated",
        )
    return rehearse(reference, history, code, work)
