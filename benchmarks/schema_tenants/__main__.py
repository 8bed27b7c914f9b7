"""Create a schema for each input line ("migrate NAME" or "clone NAME"), and print the seconds that it took.

Before that, create the shared tables and the schema that others are cloned from, and print "ready".
"""

import sys
from typing import Any

import django
from django.core.management import call_command
from django.db import connection
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.test import override_settings

from benchmarks.measure import seconds_of
from benchmarks.schema_tenants.settings import TENANT_BASE_SCHEMA as BASE_SCHEMA

# What the product's migrations leave in every tenant's database; there may be more triggers.
PROMPTS = 4
TRIGGERS = 5


def main() -> None:
    _let_migrations_run_in_any_schema()
    django.setup()
    call_command("migrate_schemas", shared=True, verbosity=0)
    _create(BASE_SCHEMA)
    print("ready", flush=True)
    for line in sys.stdin:
        mode, name = line.split()
        with override_settings(TENANT_CREATION_FAKES_MIGRATIONS=mode == "clone"):
            print(_create(name), flush=True)


def _create(name: str) -> float:
    """Create a tenant by saving it, as in django-tenants' manual; return the seconds that this alone took."""
    from benchmarks.schema_tenants.customers.models import Customer

    customer = Customer(schema_name=name, name=name)
    seconds = seconds_of(lambda: customer.save(verbosity=0))
    _require_guards(name)
    return seconds


def _require_guards(schema: str) -> None:
    """Raise if the schema lacks the product's rows or triggers, since the comparison would be unfair."""
    with connection.cursor() as cursor:
        cursor.execute(f'SELECT count(*) FROM "{schema}".prompts')
        prompts = cursor.fetchone()[0]
        cursor.execute(
            "SELECT count(DISTINCT trigger_name) FROM information_schema.triggers WHERE trigger_schema = %s", [schema]
        )
        triggers = cursor.fetchone()[0]
    if prompts != PROMPTS or triggers < TRIGGERS:
        raise RuntimeError(f"schema {schema} has {prompts} prompts and {triggers} triggers")


def _let_migrations_run_in_any_schema() -> None:
    """Replace the schema "public", which the product's SQL names, with the tenant's."""
    execute = BaseDatabaseSchemaEditor.execute

    def execute_in_schema(self: BaseDatabaseSchemaEditor, sql: Any, params: Any = ()) -> None:
        schema = getattr(self.connection, "schema_name", "public")
        execute(self, sql.replace("public.", f"{schema}.") if isinstance(sql, str) else sql, params)

    BaseDatabaseSchemaEditor.execute = execute_in_schema  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
