"""The database that new tenants are cloned from, one per server: all tenant migrations, grants and initial rows.

Its name contains a fingerprint of everything that determines its content, so that a release with other content builds a
new template and never uses an old one by mistake.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import django
from django.apps import apps
from django.db.migrations.executor import MigrationExecutor

from config.base.databases import CONTROL
from tenants.errors import ServerError
from tenants.models import DatabaseServer, SchemaReference, database_prefix
from tenants.routing.owner_connection import owner_connection
from tenants.routing.router import TENANT_APPS
from tenants.schema.grants import grant_all, privileges
from tenants.schema.reference import reference_record
from tenants.schema.releases import migration_files, release
from tenants.selectors import tenants_existing
from tenants.servers.session import ServerSession


def template_name(prefix: str) -> str:
    return f"{prefix}_template_{fingerprint()[:12]}"


def ensure_template(server_session: ServerSession, prefix: str) -> str:
    """Return the name of the server's template for this release, building it if it does not exist yet.

    1. check without a lock; 2. check again under the server's lock; 3. create missing roles, and drop the leftovers
    of a killed build; 4. create the database, migrate it as the owner, and grant privileges; 5. store its schema, to
    compare tenants with; 6. rename and close: only a finished template has the final name. Raises `ServerError`, or
    what a failing migration raises.
    """
    name = template_name(prefix)
    if server_session.template_is_ready(name):
        return name
    with server_session.template_lock():
        if not server_session.template_is_ready(name):
            server_session.prepare()
            building = f"{name}_building"
            server_session.drop_database(building)
            server_session.create_empty_database(building)
            _migrate(server_session, building, name)
            server_session.close_template(building, name)
    return name


def promote(server_session: ServerSession, database: str, prefix: str) -> None:
    """Turn a newly migrated database into the template of this release, unless there already is one."""
    name = template_name(prefix)
    with server_session.template_lock():
        if not server_session.template_is_ready(name):
            server_session.close_template(database, name)


def drop_unused_templates() -> None:
    """Drop the templates that neither this release nor any tenant's version uses; skip servers that fail.

    Not part of a migration, since PostgreSQL waits for a checkpoint whenever a database is dropped. Nothing is dropped
    while any tenant's version is unknown.
    """
    versions = set(tenants_existing().values_list("schema_version", flat=True))
    if "" in versions:
        return
    prefix = database_prefix()
    references = SchemaReference.objects.using(CONTROL).filter(template__gt="")
    used = {template_name(prefix), *references.filter(version__in=versions).values_list("template", flat=True)}
    for server in DatabaseServer.objects.using(CONTROL):
        with (
            suppress(ServerError),
            ServerSession(server, prefix, "templates") as server_session,
            server_session.template_lock(),
        ):
            for name in server_session.databases_named(f"{prefix}_template_"):
                if name not in used and server_session.template_is_ready(name):
                    server_session.drop_database(name)
                    references.filter(server=server, template=name).update(template="")


def fingerprint() -> str:
    """Return the sha256 (hex) of what determines a template: Django's version, the files of `_sources`, the grants."""
    digest = hashlib.sha256(django.get_version().encode())
    for path in sorted(_sources(), key=lambda path: (path.name, str(path))):
        digest.update(path.name.encode() + b"\n" + path.read_bytes())
    digest.update(repr(sorted(privileges())).encode())
    return digest.hexdigest()


def _sources() -> Iterator[Path]:
    """Yield the files of the tenant apps' migrations, of the SQL that some use, and of the rows that some insert."""
    yield from migration_files()
    for label in sorted(TENANT_APPS):
        app = Path(apps.get_app_config(label).path)
        yield from (path for path in (app / "log" / "chain_sql.py", *(app / "defaults").rglob("*")) if path.is_file())


def _migrate(server_session: ServerSession, database: str, name: str) -> None:
    """Apply only the tenant apps' migrations, as the owner; then grant privileges and record the schema."""
    code = release()
    with owner_connection(server_session.server, database, name) as connection:
        MigrationExecutor(connection).migrate(code.targets)
        grant_all(connection)
        reference_record(server_session.server, connection, code, template=name)
