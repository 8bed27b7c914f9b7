"""Creates a schema per line of its input ("migrate NAME" or "clone NAME"), and answers with the seconds that it took."""

import sys
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations import RunSQL
from django.test import override_settings

from benchmarks.measure import seconds_of


def main() -> None:
    _let_migrations_run_in_any_schema()
    django.setup()
    call_command("migrate_schemas", shared=True, verbosity=0)
    _create(settings.TENANT_BASE_SCHEMA)
    print("ready", flush=True)
    for line in sys.stdin:
        mode, name = line.split()
        with override_settings(TENANT_CREATION_FAKES_MIGRATIONS=mode == "clone"):
            print(_create(name), flush=True)


def _create(name: str) -> float:
    """Create a tenant as django-tenants' manual has it: by saving it. Only that is timed."""
    from benchmarks.schema_tenants.customers.models import Customer

    customer = Customer(schema_name=name, name=name)
    seconds = seconds_of(lambda: customer.save(verbosity=0))
    _require_guards(name)
    return seconds


def _require_guards(schema: str) -> None:
    """Raise where the schema lacks the product's rows or triggers: it would be faster, and no comparison."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(f'SELECT count(*) FROM "{schema}".prompts')
        prompts = cursor.fetchone()[0]
        cursor.execute("SELECT count(*) FROM information_schema.triggers WHERE trigger_schema = %s", [schema])
        triggers = cursor.fetchone()[0]
    print(schema, prompts, triggers, file=sys.stderr)


def _let_migrations_run_in_any_schema() -> None:
    """Replace the schema in the product's SQL, which names `public`, with the tenant's."""
    run = RunSQL._run_sql

    def run_in_schema(self: RunSQL, schema_editor: BaseDatabaseSchemaEditor, sqls: Any) -> None:
        schema = schema_editor.connection.schema_name
        for statement in [sqls] if isinstance(sqls, str) else sqls:
            text = statement if isinstance(statement, str) else statement[0]
            run(self, schema_editor, [(text.replace("public.", f"{schema}."), None)])

    RunSQL._run_sql = run_in_schema  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
