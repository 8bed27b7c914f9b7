"""What a batch does in each tenant's database, worked out once: recorded SQL, or Python where that would differ.

Django works out an operation's SQL from the migration states and from what it finds in the catalog. Tenants of one
batch have the same history and, as their fingerprints prove, the same catalog, so the SQL of Django's own operations is
the same for all: it is recorded while a rehearsal database is migrated, and repeated. Operations that run Python, or
whose SQL holds a value of the moment, run in each tenant; the states that they work with are still made once.
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

# Operations whose SQL follows from states and catalog alone. Exactly these classes: a subclass may do anything.
FROM_SCHEMA_ALONE = {
    getattr(module, name)
    for module, names in (
        (operations, operations.__all__),
        (postgres_operations, dir(postgres_operations)),
    )
    for name in names
    if isinstance(getattr(module, name), type) and issubclass(getattr(module, name), Operation)
} - {operations.RunPython, operations.SeparateDatabaseAndState}
# Callable defaults that give the same value each time.
CONSTANT_FACTORIES = (dict, list, set, tuple, str, int, bool)
# Between two migrations, as their separate commits would: fire what is deferred, or "pending trigger events" follow.
CHECK_DEFERRED = "SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED"
# Django's field operations put a default on the shared state's field for a moment.
_state_lock = threading.Lock()


@dataclass(frozen=True)
class PythonPart:
    """An operation that runs in each tenant."""

    operation: Operation
    app_label: str
    before: ProjectState
    after: ProjectState

    def run(self, editor: BaseDatabaseSchemaEditor) -> None:
        with nullcontext() if isinstance(self.operation, operations.RunPython) else _state_lock:
            self.operation.database_forwards(self.app_label, editor, self.before, self.after)


@dataclass(frozen=True)
class ScriptStep:
    """One migration."""

    key: Key
    # SQL as it is sent, several statements in one string, and Python between.
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
    """From one history to this code's: the same for every tenant with that history on one server."""

    steps: tuple[ScriptStep, ...]
    # Then privileges on what they made, and rows in django_migrations: SQL, in one string.
    ending: str
    # The schema that must come of it, and its fingerprint.
    catalog: Catalog
    fingerprint: str

    @property
    def migrations(self) -> list[str]:
        return [label(step.key) for step in self.steps]

    def run(self, connection: BaseDatabaseWrapper, on_step: Callable[[str], None] = lambda name: None) -> None:
        """Apply it in the connection's open transaction; `on_step` hears what is next."""
        for step in self.steps:
            on_step(label(step.key))
            step.run(connection)
        on_step("")
        _execute(connection, self.ending)


def record_script(connection: BaseDatabaseWrapper, on_step: Callable[[str], None] = lambda name: None) -> Script:
    """Migrate a rehearsal database, in one transaction like a tenant's, and return what that took.

    The connection is in autocommit before and after.
    """
    history = history_read(connection)
    executor = MigrationExecutor(connection)
    # This history's own: which of a squashed migration and those that it replaces is used depends on it.
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
    """Apply one migration and keep its statements; moves `state` past it."""
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
                # Whatever it sent through the editor, it sends itself in each tenant.
                parts[kept:] = [part]
    return ScriptStep((migration.app_label, migration.name), tuple(parts))


def _recording_editor(connection: BaseDatabaseWrapper, parts: list[str | PythonPart]) -> BaseDatabaseSchemaEditor:
    """Return a schema editor that appends each statement, complete, to `parts` before it is executed."""

    class RecordingEditor(connection.SchemaEditorClass):  # type: ignore[name-defined,misc]
        def execute(self, sql: object, params: Sequence[object] | None = ()) -> None:
            statement = str(sql) if params is None else connection.ops.compose_sql(str(sql), params)  # type: ignore[attr-defined]
            # On a line of its own, since a statement may end in a comment.
            parts.append(statement.rstrip().rstrip(";") + "\n")
            super().execute(statement, None)

    return RecordingEditor(connection, atomic=True)


def is_same_everywhere(operation: Operation) -> bool:
    """Tell whether the operation's SQL follows from states and catalog alone."""
    if type(operation) is operations.SeparateDatabaseAndState:
        return all(map(is_same_everywhere, operation.database_operations))
    return type(operation) in FROM_SCHEMA_ALONE and not _holds_moment(getattr(operation, "field", None))


def _holds_moment(field: models.Field | None) -> bool:  # type: ignore[type-arg]
    """Tell whether adding the field writes a value that was made just then, such as the time or a random id."""
    if field is None:
        return False
    made = callable(field.default) and field.default not in CONSTANT_FACTORIES and field.has_default()
    return made or getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False)


def _rows(plan: Sequence[Migration]) -> History:
    """What Django records for the plan: a squashed migration and each that it replaces."""
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
