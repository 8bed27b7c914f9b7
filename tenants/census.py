"""What a tenant's database holds at one moment: whose it is, its history, how many rows, where its audit log ends."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.postgresql.psycopg_any import sql

from audit.chain import ChainHead, chain_last
from tenants.history import History
from tenants.reference import history_read

TABLES = """
SELECT relname FROM pg_catalog.pg_class
 WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') ORDER BY relname
"""
IDENTITY = "SELECT tenant_id, identity FROM public.tenant_identity"

# PostgreSQL lets every role make large objects, which are in no table. Counted as far as LARGE_OBJECTS_MOST.
LARGE_OBJECTS_MOST = 1000
LARGE_OBJECTS = f"""
SELECT count(*) FROM (SELECT FROM pg_catalog.pg_largeobject_metadata LIMIT {LARGE_OBJECTS_MOST}) AS found
"""


@dataclass(frozen=True)
class Census:
    tenant_id: str
    identity: UUID
    history: History
    # By table, all of schema public.
    rows: dict[str, int]
    audit: ChainHead


def census_take(connection: BaseDatabaseWrapper) -> Census | None:
    """Count, in the connection's transaction; None where it is no tenant's database."""
    with connection.cursor() as cursor:
        cursor.execute(TABLES)
        tables = [row[0] for row in cursor.fetchall()]
        if not {"tenant_identity", "django_migrations", "audit_logs"} <= set(tables):
            return None
        cursor.execute(IDENTITY)
        owner = cursor.fetchone()
        rows = {table: _count(connection, table) for table in tables}
    if owner is None:
        return None
    return Census(owner[0], owner[1], history_read(connection), rows, chain_last(connection, owner[1]))


def large_objects_count(connection: BaseDatabaseWrapper) -> int:
    """Return how many large objects the database holds; LARGE_OBJECTS_MOST stands for that many or more."""
    with connection.cursor() as cursor:
        cursor.execute(LARGE_OBJECTS)
        return int(cursor.fetchone()[0])


def _count(connection: BaseDatabaseWrapper, table: str) -> int:
    query = sql.SQL("SELECT count(*) FROM public.{}").format(sql.Identifier(table))
    with connection.cursor() as cursor:
        cursor.execute(query.as_string(connection.connection))
        return int(cursor.fetchone()[0])
