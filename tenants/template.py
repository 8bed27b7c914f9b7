"""The database that new tenants are cloned from: all tenant migrations, grants and first rows, built once per server.

Its name carries a fingerprint of everything that decides its content, so that a new release builds a new one and an old
one is never taken by mistake.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import LiteralString
from urllib.parse import quote, urlsplit, urlunsplit

import django
import environ
from django.apps import apps
from django.db import connections, models
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader

from tenants.active import TEMPLATE_PREFIX
from tenants.cluster import Cluster
from tenants.connections import add_alias
from tenants.router import TENANT_APPS

# What a tenant's role may do with a table, unless its model says otherwise in `database_privileges`.
DEFAULT_PRIVILEGES: tuple[LiteralString, ...] = ("SELECT", "INSERT", "UPDATE", "DELETE")
VIEW_PRIVILEGES: tuple[LiteralString, ...] = ("SELECT",)


def ensure_template(cluster: Cluster, prefix: str) -> str:
    """Return the name of the server's template for this release, building it where it does not exist yet.

    1. look, without a lock; 2. look again under the server's lock; 3. drop what a killed build left; 4. create, migrate
    as the owner, grant; 5. rename and close: only a finished template bears the name.
    """
    name = f"{prefix}_template_{fingerprint()[:12]}"
    if cluster.template_is_ready(name):
        return name
    with cluster.template_lock():
        if not cluster.template_is_ready(name):
            cluster.prepare()
            building = f"{name}_building"
            cluster.drop_database(building)
            cluster.create_empty_database(building)
            _migrate(cluster, building)
            cluster.grant_to_tenants(building, _privileges())
            cluster.close_template(building, name)
    return name


@cache
def fingerprint() -> str:
    """Return the sha256 (hex) of what a template is made from: Django, migrations with their data files, and grants."""
    digest = hashlib.sha256(django.get_version().encode())
    for path in sorted(_template_sources()):
        digest.update(path.name.encode() + b"\n" + path.read_bytes())
    digest.update(repr(sorted(_privileges())).encode())
    return digest.hexdigest()


def _template_sources() -> Iterator[Path]:
    """Yield the migrations of the tenant apps, the SQL that some build on, and the rows that some insert."""
    for label in sorted(TENANT_APPS):
        app = Path(apps.get_app_config(label).path)
        for path in (app / "guards.py", *(app / "migrations").rglob("*"), *(app / "defaults").rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                yield path


def tenant_targets(loader: MigrationLoader) -> list[tuple[str, str]]:
    """Return the newest migration of each tenant app."""
    return [node for node in loader.graph.leaf_nodes() if node[0] in TENANT_APPS]


def _migrate(cluster: Cluster, database: str) -> None:
    """Apply the tenant apps' migrations, as the owner, and nothing of the control database's."""
    alias = TEMPLATE_PREFIX + cluster.server.name
    url = urlunsplit(urlsplit(cluster.server.admin_url)._replace(path=f"/{quote(database)}"))
    config = environ.Env.db_url_config(url)
    config["ENGINE"] = "django.db.backends.postgresql"
    config.setdefault("OPTIONS", {})["assume_role"] = cluster.owner
    add_alias(alias, config)
    try:
        executor = MigrationExecutor(connections[alias])
        executor.migrate(tenant_targets(executor.loader))
    finally:
        connections[alias].close()
        del connections[alias]
        connections.settings.pop(alias)


def _privileges() -> list[tuple[str, tuple[LiteralString, ...]]]:
    """Return (table or view, privileges of the tenant's role) for every model of the tenant apps."""
    found: list[tuple[str, tuple[LiteralString, ...]]] = [("django_migrations", ("SELECT",))]
    for label in sorted(TENANT_APPS):
        found += [(model._meta.db_table, _privileges_on(model)) for model in apps.get_app_config(label).get_models()]
    return found


def _privileges_on(model: type[models.Model]) -> tuple[LiteralString, ...]:
    default = DEFAULT_PRIVILEGES if model._meta.managed else VIEW_PRIVILEGES
    return tuple(getattr(model, "database_privileges", default))
