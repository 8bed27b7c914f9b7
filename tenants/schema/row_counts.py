"""A census of a tenant's database at one moment: its identity, history, row counts, and the end of its audit log."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.postgresql.psycopg_any import sql

from audit.log.chain_check import ChainHead, chain_last
from audit.log.safe_search_path import catalog_only
from tenants.schema.reference import history_read
from tenants.schema.releases import History

TABLES = """
SELECT relname FROM pg_catalog.pg_class
 WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') ORDER BY relname
"""
# Of the given tables, the ordinary ones owned by the current role: reading these runs only PostgreSQL's own code.
PLAIN = """
SELECT relname FROM pg_catalog.pg_class AS class
 WHERE relnamespace = 'public'::regnamespace AND relname = ANY (%s) AND relkind = 'r'
   AND relowner = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user)
   AND NOT relhasrules AND NOT relrowsecurity
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits WHERE class.oid IN (inhrelid, inhparent))
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute
                    WHERE attrelid = class.oid AND attnum > 0::int2 AND NOT attisdropped
                      AND (atttypid >= 16384::oid OR attgenerated <> ''))
"""
IDENTITY = "SELECT tenant_id, identity FROM public.tenant_identity"
IS_OF = "SELECT EXISTS (SELECT FROM public.tenant_identity WHERE identity = %s::uuid)"
# The tables that show whose a database is, and what state it is in.
ESSENTIAL = ("tenant_identity", "django_migrations", "audit_logs", "audit_chain_heads")

# PostgreSQL lets every role create large objects, which are in no table. They are counted up to LARGE_OBJECTS_MOST.
LARGE_OBJECTS_MOST = 1000
LARGE_OBJECTS = f"""
SELECT count(*) FROM (SELECT FROM pg_catalog.pg_largeobject_metadata LIMIT {LARGE_OBJECTS_MOST}) AS found
"""


@dataclass(frozen=True)
class Census:
    tenant_id: str
    identity: UUID
    history: History
    # {table: rows}, for every table in schema public.
    rows: dict[str, int]
    audit: ChainHead


def is_of(connection: BaseDatabaseWrapper, identity: UUID) -> bool:
    """Return whether the database has this tenant identity; False if its identity table cannot be read safely."""
    if not _are_plain(connection, "tenant_identity"):
        return False
    with catalog_only(connection), connection.cursor() as cursor:
        cursor.execute(IS_OF, [identity])
        return bool(cursor.fetchone()[0])


def owner_of(connection: BaseDatabaseWrapper) -> tuple[str, UUID] | None:
    """Return (tenant id, identity) from the database itself, even an untrusted one.

    None if it is not a tenant's database, or its tables cannot be read safely.
    """
    if not _are_plain(connection, *ESSENTIAL):
        return None
    return _identity(connection)


def census_take(connection: BaseDatabaseWrapper) -> Census | None:
    """Return a census, read in the connection's transaction; None if the database is not a tenant's.

    Unlike `owner_of`, this does not check first that the tables can be read safely.
    """
    with catalog_only(connection), connection.cursor() as cursor:
        cursor.execute(TABLES)
        tables = [row[0] for row in cursor.fetchall()]
    owner = _identity(connection) if set(ESSENTIAL) <= set(tables) else None
    if owner is None:
        return None
    rows = {table: _count(connection, table) for table in tables}
    return Census(owner[0], owner[1], history_read(connection), rows, chain_last(connection, owner[1]))


def large_objects_count(connection: BaseDatabaseWrapper) -> int:
    """Return how many large objects the database holds; LARGE_OBJECTS_MOST means that many or more."""
    with catalog_only(connection), connection.cursor() as cursor:
        cursor.execute(LARGE_OBJECTS)
        return int(cursor.fetchone()[0])


def _identity(connection: BaseDatabaseWrapper) -> tuple[str, UUID] | None:
    with catalog_only(connection), connection.cursor() as cursor:
        cursor.execute(IDENTITY)
        row: tuple[str, UUID] | None = cursor.fetchone()
    return row


def _are_plain(connection: BaseDatabaseWrapper, *tables: str) -> bool:
    """Return whether all these tables exist and can be read without running anyone's code."""
    with catalog_only(connection), connection.cursor() as cursor:
        cursor.execute(PLAIN, [list(tables)])
        return {row[0] for row in cursor.fetchall()} == set(tables)


def _count(connection: BaseDatabaseWrapper, table: str) -> int:
    query = sql.SQL("SELECT count(*) FROM public.{}").format(sql.Identifier(table))
    with catalog_only(connection), connection.cursor() as cursor:
        cursor.execute(query.as_string(connection.connection))
        return int(cursor.fetchone()[0])
