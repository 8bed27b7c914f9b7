"""A database's schema, read from PostgreSQL's catalogs: its fingerprint, its objects, and how two schemas differ.

It is read under `audit.log.safe_search_path`, so that no object in the database decides which functions are called or
how names are written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.translation import gettext as _

from audit.log.safe_search_path import catalog_only

# {"column runs.status": "text not null", …}
Catalog = dict[str, str]

# How many differences a message names.
NAMED = 5
# The most objects that are read: a thousand times as many as any release has, so a larger schema differs anyway.
MAX_OBJECTS = 100_000
# Entries that belong to the installation, not to the schema: a guest's database has different ones.
OWNERSHIP = ("grant ", "database ")

FINGERPRINT = """
SELECT encode(sha256(convert_to(string_agg(concat_ws(' ', kind, name, definition), E'\\n'
              ORDER BY kind COLLATE "C", name COLLATE "C"), 'UTF8')), 'hex')
  FROM objects
"""
# The rows of those catalogs and the transactions that wrote them. While these stay the same, no definition has been
# touched, and the fingerprint need not be recomputed. Cheap, but not comparable between databases.
STAMP = """
SELECT concat(sum(row), ' ', count(*)) FROM (
    SELECT hashtextextended(concat('n', oid, ' ', xmin), 0)::numeric FROM pg_catalog.pg_namespace
    UNION ALL SELECT hashtextextended(concat('r', oid, ' ', xmin), 0) FROM pg_catalog.pg_class WHERE oid >= 16384::oid
    UNION ALL SELECT hashtextextended(concat('d', oid, ' ', xmin), 0) FROM pg_catalog.pg_attrdef
    UNION ALL SELECT hashtextextended(concat('k', oid, ' ', xmin), 0) FROM pg_catalog.pg_constraint
               WHERE oid >= 16384::oid
    UNION ALL SELECT hashtextextended(concat('t', oid, ' ', xmin), 0) FROM pg_catalog.pg_trigger
    UNION ALL SELECT hashtextextended(concat('f', oid, ' ', xmin), 0) FROM pg_catalog.pg_proc WHERE oid >= 16384::oid
    UNION ALL SELECT hashtextextended(concat('y', oid, ' ', xmin), 0) FROM pg_catalog.pg_type WHERE oid >= 16384::oid
    UNION ALL SELECT hashtextextended(concat('i', indexrelid, ' ', xmin), 0) FROM pg_catalog.pg_index
               WHERE indexrelid >= 16384::oid
    UNION ALL SELECT hashtextextended(concat('a', attrelid, ' ', attnum, ' ', xmin), 0) FROM pg_catalog.pg_attribute
               WHERE attrelid >= 16384::oid
    UNION ALL SELECT hashtextextended(concat('s', seqrelid, ' ', xmin), 0) FROM pg_catalog.pg_sequence
    UNION ALL SELECT hashtextextended(concat('o', oid, ' ', xmin), 0) FROM pg_catalog.pg_operator
               WHERE oid >= 16384::oid
    UNION ALL SELECT hashtextextended(concat('c', oid, ' ', xmin), 0) FROM pg_catalog.pg_cast WHERE oid >= 16384::oid
    UNION ALL SELECT hashtextextended(concat('b', datdba), 0) FROM pg_catalog.pg_database
               WHERE datname = current_database()
) AS catalogs (row)
"""
OBJECTS = f"SELECT kind || ' ' || name, coalesce(definition, '') FROM objects LIMIT {MAX_OBJECTS}"


def catalog_fingerprint(connection: BaseDatabaseWrapper) -> str:
    """Return the sha256 (hex) of the database's schema; equal for equal schemas on servers of the same version."""
    with catalog_only(connection), connection.cursor() as cursor:
        cursor.execute(_objects_sql() + FINGERPRINT)
        return str(cursor.fetchone()[0])


def catalog_stamp(connection: BaseDatabaseWrapper) -> str:
    """Return a stamp that stays the same as long as no definition is touched (`STAMP`)."""
    with catalog_only(connection), connection.cursor() as cursor:
        cursor.execute(STAMP)
        return str(cursor.fetchone()[0])


def catalog_read(connection: BaseDatabaseWrapper) -> Catalog:
    with catalog_only(connection), connection.cursor() as cursor:
        cursor.execute(_objects_sql() + OBJECTS)
        return dict(cursor.fetchall())


def schema_part(catalog: Mapping[str, str]) -> Catalog:
    """Return the catalog without ownership and grants, that is, the part that loading a dump recreates."""
    return {name: definition for name, definition in catalog.items() if not name.startswith(OWNERSHIP)}


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Name what is missing, additional or different in `found`: ["column runs.status is missing", …], sorted."""
    return sorted(_differences(expected, found))


def named(found: list[str]) -> str:
    """Return the first differences, and how many more there are, as one phrase."""
    shown = "; ".join(found[:NAMED])
    if len(found) > NAMED:
        shown += _("; and %(count)d more") % {"count": len(found) - NAMED}
    return shown


def _differences(expected: Mapping[str, str], found: Mapping[str, str]) -> Iterator[str]:
    for name in expected.keys() - found.keys():
        yield _("%(object)s is missing") % {"object": name}
    for name in found.keys() - expected.keys():
        yield _("%(object)s is unexpected") % {"object": name}
    for name in expected.keys() & found.keys():
        if expected[name] != found[name]:
            yield _("%(object)s is different") % {"object": name}


@cache
def _objects_sql() -> str:
    return Path(__file__).with_name("catalog.sql").read_text()
