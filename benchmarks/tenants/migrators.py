"""Ways to migrate a fleet: the product's command, django-tenants' command, and plain SQL in threads."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
from psycopg import sql

from benchmarks import launch
from benchmarks.children import CHECKOUT, child
from benchmarks.environment import Environment
from benchmarks.measure import seconds_of
from benchmarks.tenants.releases import APP, Releases

PREFIX = "bench-"
# The product's default.
WORKERS = 8
RECORD = sql.SQL("INSERT INTO django_migrations (app, name, applied) VALUES ({}, {}, now())")


class Product:
    """`seo-gen tenant migrate --all`."""

    def __init__(self, environment: Environment, releases: Releases) -> None:
        self._environment = environment
        self._releases = releases
        self._release = 0
        self._tenants = 0

    def grow_to(self, count: int) -> None:
        """Create tenants until there are this many. New ones have the release of the last `migrate`."""
        from tenants.lifecycle.create import tenant_create
        from tenants.selectors import tenants_existing

        with self._releases.active(self._release):
            for number in range(tenants_existing().count(), count):
                tenant_create(name=f"{PREFIX}fleet-{number}")
        self._tenants = count

    def databases(self) -> list[str]:
        from tenants.schema.inspection import database_of
        from tenants.selectors import tenants_existing

        return [database_of(tenant) for tenant in tenants_existing()]

    def migrate(self) -> launch.Ended:
        """Migrate every tenant to the next release; return the command's measurements."""
        self._release += 1
        return self._command(pending=self._tenants)

    def idle(self) -> launch.Ended:
        """Migrate again, with nothing to do; return the command's measurements."""
        return self._command(pending=0)

    def _command(self, *, pending: int) -> launch.Ended:
        ended = launch.run(
            [str(Path(sys.executable).with_name("seo-gen")), "tenant", "migrate", "--all", "--json"],
            output=self._environment.home.path / "migrate.json",
            log=self._environment.log("migrate"),
            environment={
                **self._releases.environment(self._release),
                "DJANGO_SETTINGS_MODULE": "benchmarks.tenants.next_release",
                # Without the packages of the rivals.
                "PYTHONPATH": str(CHECKOUT),
            },
        )
        document = json.loads(ended.output)
        found = (document["outcome"], document["tenant_count"], document["pending_count"])
        if found != ("completed", self._tenants, pending):
            raise RuntimeError(f"the command ended with {found}")
        return ended


class Floor:
    """The migration's SQL in clones of the tenants' template: prepared in all databases, then committed in all."""

    def __init__(self, environment: Environment, releases: Releases, count: int) -> None:
        self._environment = environment
        self._releases = releases
        self._release = 0
        self._databases = [f"{PREFIX}floor-{number}" for number in range(count)]
        self._clone_template()

    def migrate(self) -> float:
        """Migrate all databases; return the seconds taken."""
        self._release += 1
        statements = ";\n".join(self._statements())

        def prepare(database: str) -> None:
            with self._connect(database) as connection:
                connection.execute(f"BEGIN;\n{statements};\nPREPARE TRANSACTION '{database}'".encode())

        def commit(database: str) -> None:
            with self._connect(database) as connection:
                connection.execute(sql.SQL("COMMIT PREPARED {}").format(database))

        def both() -> None:
            for_each(prepare, self._databases)
            for_each(commit, self._databases)

        return seconds_of(both)

    def _statements(self) -> list[str]:
        """Return Django's SQL for the release's migration, and one statement to record it as applied."""
        from django.db.migrations.loader import MigrationLoader

        from tenants.routing.owner_connection import owner_connection
        from tenants.selectors import server_for_new_tenant

        name = self._releases.migration(self._release)
        with (
            self._releases.active(self._release),
            owner_connection(server_for_new_tenant(None), self._databases[0], "benchmark") as connection,
        ):
            loader = MigrationLoader(connection)
            lines = loader.collect_sql([(loader.graph.nodes[APP, name], False)])
            row = RECORD.format(APP, name).as_string(connection.connection)
        return [*(line.rstrip(";") for line in lines if not line.startswith("--")), row]

    def _connect(self, database: str) -> psycopg.Connection:
        """Connect as the owner of the tenants' tables, so that it owns new objects too."""
        return _connect(self._environment, database, f"-c role={_owner()}")

    def _clone_template(self) -> None:
        from tenants.models import database_prefix
        from tenants.schema.template import template_name

        with self._releases.active(self._release):
            template = sql.Identifier(template_name(database_prefix()))
        create = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}")
        with self._environment.server() as server:
            for name in self._databases:
                server.execute(create.format(sql.Identifier(name), sql.Identifier(_owner()), template))


class Schemas:
    """django-tenants' `migrate_schemas`: one schema per tenant, all in one database."""

    def __init__(self, environment: Environment, releases: Releases, count: int) -> None:
        self._environment = environment
        self._releases = releases
        self._release = 0
        self._count = count
        self._url = environment.create_database("migrated_schemas")
        self._variables = {
            "SCHEMA_TENANTS_URL": self._url,
            "DJANGO_SETTINGS_MODULE": "benchmarks.schema_tenants.settings",
        }
        log = environment.log("migrated_schemas")
        with child(["-m", "benchmarks.schema_tenants"], log=log, environment=self._variables) as project:
            project.answer()  # it is ready, and its base schema is a tenant as well
            for number in range(1, count):
                # Faster than cloning, if there are many.
                project.answer(f"migrate s{number}")

    def migrate(self) -> float:
        """Migrate all schemas; return the seconds from the program's start to its exit."""
        self._release += 1
        # The faster of the two that need no process per tenant: the standard one takes almost twice as long.
        options = ["--tenant", "--executor=multiprocessing", "--verbosity=0"]
        ended = launch.run(
            [sys.executable, "-m", "django", "migrate_schemas", *options],
            output=self._environment.home.path / "migrate_schemas.out",
            log=self._environment.log("migrated_schemas"),
            environment={**self._variables, **self._releases.environment(self._release)},
        )
        self._require_columns()
        return ended.seconds

    def _require_columns(self) -> None:
        """Raise if a schema was not migrated, which the command's pool does not report."""
        query = "SELECT count(*) FROM pg_attribute WHERE attname = %s"
        with psycopg.connect(self._url) as connection:
            row = connection.execute(query, [f"label_{self._release}"]).fetchone()
        if row != (self._count,):
            raise RuntimeError(f"{row} instead of {self._count} schemas were migrated")


def connecting(environment: Environment, databases: Sequence[str]) -> float:
    """Return the seconds taken to connect to each database and run a minimal query."""

    def ask(database: str) -> None:
        with _connect(environment, database) as connection:
            connection.execute("SELECT 1")

    return seconds_of(lambda: for_each(ask, databases))


def for_each(work: Callable[[str], None], databases: Sequence[str]) -> None:
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(work, databases))


def _connect(environment: Environment, database: str, options: str = "") -> psycopg.Connection:
    return psycopg.connect(environment.postgres_url, dbname=database, autocommit=True, options=options)


def _owner() -> str:
    from tenants.models import database_prefix

    return f"{database_prefix()}_owner"
