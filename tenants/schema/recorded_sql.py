"""Prepare once what a batch runs in each tenant's database: recorded SQL, or Python if the SQL would differ.

Django derives an operation's SQL from the migration states and the catalog. Tenants of one server with the same history
also have the same catalog, as their fingerprints prove, so the SQL of Django's own operations is the same for all: it
is recorded while a rehearsal database is migrated, then replayed. Operations that run Python, that are not Django's
own, or whose SQL contains a value computed at run time, run in each tenant; their states are still built only once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from django.contrib.postgres import operations as postgres_operations
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations import operations
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.migration import Migration
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from tenants.routing.router import TENANT_APPS
from tenants.schema.catalog import Catalog, catalog_fingerprint, catalog_read
from tenants.schema.grants import grant_statements
from tenants.schema.reference import history_read
from tenants.schema.releases import History, Key, label

# Operations whose SQL depends only on states and catalog. Exactly these classes: a subclass could do anything.
FROM_SCHEMA_ALONE = {
    getattr(module, name)
    for module, names in (
        (operations, operations.__all__),
        (postgres_operations, dir(postgres_operations)),
    )
    for name in names
    if isinstance(getattr(module, name), type) and issubclass(getattr(module, name), Operation)
} - {operations.RunPython, operations.SeparateDatabaseAndState}
# Callable defaults that return the same value each time.
CONSTANT_FACTORIES = (dict, list, set, tuple, str, int, bool)
# Run after each migration, to fire deferred triggers as separate commits would; otherwise "pending trigger events"
# are an error.
CHECK_DEFERRED = "SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED"
# Django's field operations temporarily set a default on the shared state's field.
_state_lock = threading.Lock()


@dataclass(frozen=True)
class PythonPart:
    """An operation that Python carries out in each tenant's database."""

    operation: Operation
    app_label: str
    before: ProjectState
    after: ProjectState

    def run(self, editor: BaseDatabaseSchemaEditor) -> None:
        with nullcontext() if isinstance(self.operation, operations.RunPython) else _state_lock:
            self.operation.database_forwards(self.app_label, editor, self.before, self.after)


@dataclass(frozen=True)
class ScriptStep:
    """One migration: the SQL and the Python to run in each tenant's database."""

    key: Key
    # The SQL, with its parameters filled in, and the Python parts, in the order in which they run.
    parts: tuple[str | PythonPart, ...]

    def run(self, connection: BaseDatabaseWrapper) -> None:
        if any(isinstance(part, PythonPart) for part in self.parts):
            with connection.schema_editor(atomic=True) as editor:
                for part in self.parts:
                    part.run(editor) if isinstance(part, PythonPart) else _execute(connection, part)
            _execute(connection, CHECK_DEFERRED)
        else:
            _execute(connection, ";\n".join([*map(str, self.parts), CHECK_DEFERRED]))


@dataclass(frozen=True)
class Script:
    """The migration from one history to this code's: the same for every tenant with that history on one server."""

    steps: tuple[ScriptStep, ...]
    # The SQL, in one string, for privileges on the new objects and for rows in django_migrations.
    ending: str
    # The expected schema, and its fingerprint.
    catalog: Catalog
    fingerprint: str

    @property
    def migrations(self) -> list[str]:
        return [label(step.key) for step in self.steps]

    def run(self, connection: BaseDatabaseWrapper, on_step: Callable[[str], None] = lambda name: None) -> None:
        """Apply the script in the connection's open transaction.

        `on_step` is called with the name of each migration before it runs, and with "" before the ending.
        """
        for step in self.steps:
            on_step(label(step.key))
            step.run(connection)
        on_step("")
        _execute(connection, self.ending)


def record_script(connection: BaseDatabaseWrapper, on_step: Callable[[str], None] = lambda name: None) -> Script:
    """Migrate a rehearsal database, in one transaction like a tenant's, and return the recorded script.

    `on_step` is called as in `Script.run`. The connection must be in autocommit mode, and is again on return, but not
    after an error.
    """
    history = history_read(connection)
    executor = MigrationExecutor(connection)
    # From this history's graph: it decides whether a squashed migration or the ones that it replaces are used.
    targets = [key for key in executor.loader.graph.leaf_nodes() if key[0] in TENANT_APPS]
    plan = [migration for migration, _backwards in executor.migration_plan(targets)]
    nodes = executor.loader.graph.nodes
    state = executor.loader.project_state([key for key in executor.loader.applied_migrations if key in nodes])
    steps = []
    connection.set_autocommit(False)
    for migration in plan:
        on_step(label((migration.app_label, migration.name)))
        steps.append(_record_step(connection, migration, state))
        _execute(connection, CHECK_DEFERRED)
    on_step("")
    ending = ";\n".join([*grant_statements(connection), _insert(connection, sorted(_rows(plan) - history))])
    _execute(connection, ending)
    script = Script(tuple(steps), ending, catalog_read(connection), catalog_fingerprint(connection))
    connection.commit()
    connection.set_autocommit(True)
    return script


def _record_step(connection: BaseDatabaseWrapper, migration: Migration, state: ProjectState) -> ScriptStep:
    """Apply one migration, advance `state`, and return the recorded step."""
    parts: list[str | PythonPart] = []
    with _recording_editor(connection, parts) as editor:
        for operation in migration.operations:
            before = state.clone()
            operation.state_forwards(migration.app_label, state)
            part = PythonPart(operation, migration.app_label, before, state.clone())
            if is_same_everywhere(operation):
                part.operation.database_forwards(part.app_label, editor, part.before, part.after)
            else:
                kept = len(parts)
                part.run(editor)
                # Drop the statements that the operation sent through the editor: it sends new ones in each tenant.
                parts[kept:] = [part]
    return ScriptStep((migration.app_label, migration.name), tuple(parts))


def _recording_editor(connection: BaseDatabaseWrapper, parts: list[str | PythonPart]) -> BaseDatabaseSchemaEditor:
    """Return a schema editor that appends each statement to `parts`, its parameters filled in, before executing it."""

    class RecordingEditor(connection.SchemaEditorClass):  # type: ignore[name-defined,misc]
        def execute(self, sql: object, params: Sequence[object] | None = ()) -> None:
            statement = str(sql) if params is None else connection.ops.compose_sql(str(sql), params)  # type: ignore[attr-defined]
            # On a line of its own, since a statement may end in a comment.
            parts.append(statement.rstrip().rstrip(";") + "\n")
            super().execute(statement, None)

    return RecordingEditor(connection, atomic=True)


def is_same_everywhere(operation: Operation) -> bool:
    """Return whether the operation's SQL depends only on states and catalog."""
    if type(operation) is operations.SeparateDatabaseAndState:
        return all(map(is_same_everywhere, operation.database_operations))
    return type(operation) in FROM_SCHEMA_ALONE and not _depends_on_moment(getattr(operation, "field", None))


def _depends_on_moment(field: models.Field | None) -> bool:  # type: ignore[type-arg]
    """Return whether adding or altering the field can write a value computed at run time, such as a random id."""
    if field is None:
        return False
    made = callable(field.default) and field.default not in CONSTANT_FACTORIES and field.has_default()
    return made or getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False)


def _rows(plan: Sequence[Migration]) -> History:
    """Return what Django records for the plan: each migration, and those that a squashed one replaces."""
    keys = {(migration.app_label, migration.name) for migration in plan}
    return frozenset(keys | {replaced for migration in plan for replaced in migration.replaces})


def _insert(connection: BaseDatabaseWrapper, rows: Sequence[Key]) -> str:
    """Return the statement that records the migrations as Django does."""
    values = [value for row in rows for value in row]
    one = "(%s, %s, pg_catalog.now())"
    query = "INSERT INTO public.django_migrations (app, name, applied) VALUES " + ", ".join([one] * len(rows))
    return str(connection.ops.compose_sql(query, values))  # type: ignore[attr-defined]


def _execute(connection: BaseDatabaseWrapper, statements: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statements)
