"""Reference schemas: what a history of migrations creates, stored per server to compare tenants with."""

from __future__ import annotations

from django.db.backends.base.base import BaseDatabaseWrapper

from audit.log.safe_search_path import catalog_only
from config.base.databases import CONTROL
from tenants.models import DatabaseServer, SchemaReference
from tenants.routing.router import TENANT_APPS
from tenants.schema.catalog import catalog_fingerprint, catalog_read
from tenants.schema.releases import History, Release, digest_of

APPLIED = "SELECT app, name FROM public.django_migrations WHERE app = ANY(%s)"


def history_read(connection: BaseDatabaseWrapper) -> History:
    """Return the tenant apps' migrations that the database says were applied."""
    with catalog_only(connection), connection.cursor() as cursor:
        cursor.execute(APPLIED, [sorted(TENANT_APPS)])
        return frozenset(cursor.fetchall())


def reference_find(server: DatabaseServer, server_version: int, history: History) -> SchemaReference | None:
    """Return the server's reference for `history` (`server_version` is the major version); None if not known yet."""
    return (
        SchemaReference.objects.using(CONTROL)
        .filter(server=server, server_version=server_version, history=digest_of(history))
        # An older release stored it in another form (migration 0011).
        .exclude(fingerprint="")
        .first()
    )


def template_version(server_name: str | None, template: str) -> str:
    """Return the schema version of a template database on the server; "" if unknown."""
    found = SchemaReference.objects.using(CONTROL).filter(server=server_name, template=template)
    return found.values_list("version", flat=True).first() or ""


def reference_record(
    server: DatabaseServer, connection: BaseDatabaseWrapper, release: Release, *, template: str = ""
) -> SchemaReference:
    """Store the schema of a newly migrated database as the reference for its history, and return the reference.

    Replaces a reference that was stored for the same history. `template` is the name that the database gets as a
    template, if it becomes one.
    """
    history = history_read(connection)
    values = {
        "version": release.version_of(history),
        "fingerprint": catalog_fingerprint(connection),
        "catalog": catalog_read(connection),
        **({"template": template} if template else {}),
    }
    reference, _created = SchemaReference.objects.using(CONTROL).update_or_create(
        server=server, server_version=major_version(connection), history=digest_of(history), defaults=values
    )
    return reference


def major_version(connection: BaseDatabaseWrapper) -> int:
    version: int = connection.pg_version  # type: ignore[attr-defined]
    return version // 10000
