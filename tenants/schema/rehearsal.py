"""Scratch databases: migrations are tried out in them before any tenant is touched, and reference schemas are built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.db.utils import Error
from django.utils.translation import gettext as _

from config.base.databases import CONTROL
from tenants.errors import ServerError, TenantError, bare, reason_of
from tenants.models import DatabaseServer, SchemaReference, database_prefix
from tenants.routing.owner_connection import owner_connection
from tenants.schema.catalog import differences, named
from tenants.schema.grants import grant_all
from tenants.schema.recorded_sql import Script, record_script
from tenants.schema.reference import history_read, reference_find, reference_record
from tenants.schema.releases import History, Release
from tenants.schema.template import promote, template_name
from tenants.servers.session import ServerSession

OnStep = Callable[[str], None]


def reference_for(
    server: DatabaseServer, server_version: int, history: History, release: Release, work: str
) -> SchemaReference:
    """Return the reference for `history` on the server; if it is not known, build it in a scratch database.

    Raises `ServerError`.
    """
    known = reference_find(server, server_version, history)
    if known is not None:
        return known
    with (
        ServerSession(server, database_prefix(), work) as server_session,
        _scratch(server_session, "", work) as database,
        _failing_as_rehearsal(server, lambda: ""),
        owner_connection(server, database, work) as connection,
    ):
        _build(connection, history)
        return reference_record(server, connection, release)


def rehearse(reference: SchemaReference, history: History, release: Release, work: str) -> Script:
    """Migrate a scratch database from `history` to the release, and return the recorded script.

    The scratch database is a clone of the template in that state if the server still has it; otherwise it starts empty.
    Once migrated, it becomes the release's template, unless there already is one. Raises `ServerError`, which names
    the migration if one of those after `history` fails.
    """
    step = ""

    def on_step(name: str) -> None:
        nonlocal step
        step = name

    server = reference.server
    with (
        ServerSession(server, database_prefix(), work) as server_session,
        _scratch(server_session, reference.template, work) as database,
    ):
        with (
            _failing_as_rehearsal(server, lambda: step),
            owner_connection(server, database, work) as connection,
        ):
            if _history_or_none(connection) != history:
                _build(connection, history)
            script = record_script(connection, on_step)
            _compare_or_record(server_session, connection, reference.server_version, script, release)
        promote(server_session, database, database_prefix())
    return script


def _compare_or_record(
    server_session: ServerSession,
    connection: BaseDatabaseWrapper,
    server_version: int,
    script: Script,
    release: Release,
) -> None:
    """Require the result to match the template; if there is no template, record the result, which becomes the template.

    The stored reference may be an older template's, if a migration was edited before any tenant had applied it.
    """
    template = template_name(database_prefix())
    known = reference_find(server_session.server, server_version, history_read(connection))
    if known is None or known.template != template or not server_session.template_is_ready(template):
        reference_record(server_session.server, connection, release, template=template)
    elif known.fingerprint != script.fingerprint:
        found = named(differences(known.catalog, script.catalog))
        raise TenantError(
            _("The migrated schema differs from the template's: %(differences)s.") % {"differences": found},
            code="migration_schema_differs",
        )


def scratch_prefix() -> str:
    """Return the prefix of scratch databases' names."""
    return f"{database_prefix()}_rehearsal_"


def drop_scratch_databases(work: str) -> None:
    """Drop the leftovers of killed rehearsals on every server; a server that is down keeps its own until next time.

    Call it with the fleet locked, since it also drops the scratch databases of rehearsals that are still running.
    """
    for server in DatabaseServer.objects.using(CONTROL):
        with suppress(ServerError), ServerSession(server, database_prefix(), work) as server_session:
            for name in server_session.databases_named(scratch_prefix()):
                server_session.drop_database(name)


@contextmanager
def _scratch(server_session: ServerSession, template: str, work: str) -> Iterator[str]:
    """Yield the name of a scratch database, a clone of `template` if the server has it; drop it afterwards."""
    name = scratch_prefix() + work.rpartition(" ")[2].replace("-", "")[:12]
    server_session.drop_database(name)
    try:
        if template and server_session.template_is_ready(template):
            server_session.clone(template, name)
            server_session.open_to_owner(name)
        else:
            server_session.create_empty_database(name)
        yield name
    finally:
        server_session.drop_database(name)


def _history_or_none(connection: BaseDatabaseWrapper) -> History | None:
    """Return the database's history; None if it was never migrated."""
    return history_read(connection) if MigrationRecorder(connection).has_table() else None


def _build(connection: BaseDatabaseWrapper, history: History) -> None:
    """Apply exactly `history` to an empty database, then grant privileges.

    Squashed migrations are used, unless the history contains only part of what one of them replaces: then none is used,
    and the replaced migrations are applied.
    """
    squashed = MigrationLoader(None, replace_migrations=False).replacements
    partial = any(
        0 < len(history & set(migration.replaces)) < len(migration.replaces) for migration in squashed.values()
    )
    executor = MigrationExecutor(connection)
    executor.loader = MigrationLoader(connection, replace_migrations=not partial)
    replaced_by = {} if partial else {one: key for key, squash in squashed.items() for one in squash.replaces}
    executor.migrate(sorted({replaced_by.get(key, key) for key in history}))
    grant_all(connection)
    recorder = MigrationRecorder(connection)
    for key in history - history_read(connection):
        recorder.record_applied(*key)
    for key in history_read(connection) - history:
        recorder.record_unapplied(*key)


@contextmanager
def _failing_as_rehearsal(server: DatabaseServer, step: Callable[[], str]) -> Iterator[None]:
    """Turn a failure of the migrations into a `ServerError` that names the server and, if known, the migration."""
    try:
        yield
    except ServerError:
        raise
    except TenantError as error:
        raise _failure(server, step(), str(error)) from error
    except Error as error:
        raise _failure(server, step(), reason_of(error)) from error
    except Exception as error:  # a data migration's own code
        raise _failure(server, step(), f"{type(error).__name__}: {str(error).partition(chr(10))[0]}") from error


def _failure(server: DatabaseServer, migration: str, reason: str) -> ServerError:
    if migration:
        message = _("The rehearsal on database server %(name)s failed at %(migration)s: %(reason)s.")
    else:
        message = _(
            "A scratch database on database server %(name)s could not be brought to the expected schema: %(reason)s."
        )
    return ServerError(
        message % {"name": server.name, "migration": migration, "reason": bare(reason)},
        hint=_("Fix the cause, which is usually in the migration, then try again."),
        code="migration_rehearsal_failed",
    )
