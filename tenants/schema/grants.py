"""Privileges of the tenants' group role in a tenant's database: what the models require, and what it has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import LiteralString

from django.apps import apps
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.postgresql.psycopg_any import sql

from audit.log.safe_search_path import catalog_only
from tenants.models import database_prefix
from tenants.routing.router import TENANT_APPS

# A tenant role's privileges on a table, unless its model sets `database_privileges`.
DEFAULT_PRIVILEGES: tuple[LiteralString, ...] = ("SELECT", "INSERT", "UPDATE", "DELETE")
VIEW_PRIVILEGES: tuple[LiteralString, ...] = ("SELECT",)

# The privileges granted to a role (a parameter) on each table, view and sequence in schema `public`.
GRANTED = """
SELECT c.relname, c.relkind = 'S',
       ARRAY(SELECT privilege_type FROM aclexplode(c.relacl)
              WHERE grantee = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = %s))
  FROM pg_catalog.pg_class c
 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
 ORDER BY c.relname
"""

# The statements that change the privileges of roles other than the owner, on each of our objects, to those in a catalog
# (`tenants.schema.catalog`), {name: "role=rights/grantor, …"} as two arrays. Privileges that the catalog does not list
# are revoked.
CHANGES = """
WITH object (kind, name, acl, owner) AS (
    SELECT 'SCHEMA', quote_ident(nspname), coalesce(nspacl, acldefault('n', nspowner)), nspowner
      FROM pg_catalog.pg_namespace WHERE oid >= 16384::oid OR oid = 2200::oid
    UNION ALL
    SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, oid::regclass::text,
           coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner)), relowner
      FROM pg_catalog.pg_class WHERE oid >= 16384::oid AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
    UNION ALL
    SELECT 'ROUTINE', oid::regprocedure::text, coalesce(proacl, acldefault('f', proowner)), proowner
      FROM pg_catalog.pg_proc WHERE oid >= 16384::oid
), have (kind, name, grantee, privilege) AS (
    SELECT kind, name, grantee, privilege_type FROM object, aclexplode(acl) WHERE grantee <> owner
), wanted (kind, name, grantee, privilege) AS (
    SELECT kind, name, grantee, privilege_type
      FROM object
      JOIN unnest(%s::text[], %s::text[]) AS catalog (object, entries)
           ON catalog.object = regexp_replace(name, '^public\\.', ''),
           aclexplode(string_to_array(entries, ', ')::aclitem[])
     WHERE grantee <> owner
), change (word, direction, kind, name, grantee, privilege) AS (
    SELECT 'REVOKE', 'FROM', * FROM (TABLE have EXCEPT TABLE wanted) AS excess
    UNION ALL
    SELECT 'GRANT', 'TO', * FROM (TABLE wanted EXCEPT TABLE have) AS missing
)
SELECT format('%%s %%s ON %%s %%s %%s %%s', word, privilege, kind, name, direction,
              CASE grantee WHEN 0::oid THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END)
  FROM change
 ORDER BY word DESC, kind, name
"""


def grant_as(connection: BaseDatabaseWrapper, catalog: Mapping[str, str]) -> None:
    """Set the privileges on the database's objects, for all roles except their owners, to those in `catalog`."""
    grants = {name.removeprefix("grant "): acl for name, acl in catalog.items() if name.startswith("grant ")}
    with catalog_only(connection), connection.cursor() as cursor:
        cursor.execute(CHANGES, [list(grants), list(grants.values())])
        for (statement,) in cursor.fetchall():
            cursor.execute(statement)


def grant_all(connection: BaseDatabaseWrapper) -> None:
    """Grant the group role USAGE on a new database's schema, and the privileges that the models require.

    Also revoke from PUBLIC the right to create objects in the schema.
    """
    group = sql.Identifier(_group())
    with catalog_only(connection), connection.cursor() as cursor:
        cursor.execute(sql.SQL("REVOKE CREATE ON SCHEMA public FROM PUBLIC").as_string(connection.connection))
        cursor.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(group).as_string(connection.connection))
        for statement in grant_statements(connection):
            cursor.execute(statement)


def grant_statements(connection: BaseDatabaseWrapper) -> list[str]:
    """Return the statements that give the group role exactly the privileges that the models require."""
    with catalog_only(connection), connection.cursor() as cursor:
        cursor.execute(GRANTED, [_group()])
        found = cursor.fetchall()
    wanted = dict(privileges())
    statements: list[str] = []
    for name, is_sequence, granted in found:
        wants = {"USAGE"} if is_sequence else set(wanted.get(name, ()))
        statements += _changes(connection, name, is_sequence, set(granted), wants)
    return statements


def privileges() -> Iterator[tuple[str, tuple[LiteralString, ...]]]:
    """Yield (table or view, privileges of the group role) for django_migrations and every model of the tenant apps."""
    yield "django_migrations", ("SELECT",)
    for label in sorted(TENANT_APPS):
        for model in apps.get_app_config(label).get_models():
            yield model._meta.db_table, _privileges_on(model)


def _changes(
    connection: BaseDatabaseWrapper, name: str, is_sequence: bool, granted: set[str], wanted: set[str]
) -> Iterator[str]:
    """Yield the statements, at most one REVOKE and one GRANT, that turn the group role's privileges into `wanted`."""
    kind = sql.SQL("SEQUENCE" if is_sequence else "TABLE")
    for words, names in (
        ("REVOKE {} ON {} {} FROM {}", granted - wanted),
        ("GRANT {} ON {} {} TO {}", wanted - granted),
    ):
        if names:
            listed = sql.SQL(", ").join(sql.SQL(privilege) for privilege in sorted(names))
            statement = sql.SQL(words).format(listed, kind, sql.Identifier("public", name), sql.Identifier(_group()))
            yield statement.as_string(connection.connection)


def _privileges_on(model: type[models.Model]) -> tuple[LiteralString, ...]:
    default = DEFAULT_PRIVILEGES if model._meta.managed else VIEW_PRIVILEGES
    return tuple(getattr(model, "database_privileges", default))


def _group() -> str:
    return f"{database_prefix()}_tenant"
