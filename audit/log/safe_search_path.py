"""Query a database without trusting the functions and operators that its owner may have created in it.

Statements that read the catalog of a tenant's or guest's database, or compare rows in it, must run inside
`catalog_only`. tests/test_catalog_only.py finds statements that do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import Error

# SHOW and SET themselves look nothing up in the path. `pg_temp` is named because PostgreSQL would search it first
# otherwise.
ENTER = "SHOW search_path; SET search_path = pg_catalog, pg_temp"
LEAVE = "SELECT pg_catalog.set_config('search_path', %s, false)"


@contextmanager
def catalog_only(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Resolve functions, operators and types in pg_catalog only. Blocks may be nested.

    With "public" in the path, PostgreSQL prefers a function there whose arguments fit better: `public.convert_to(text,
    text)` to its own `convert_to(text, name)`, `public.>=(oid, integer)` to `>=(oid, oid)`. Anyone who may create
    functions there could run code as the caller, and could fake an entry's hash or a guard. Tables are written
    "public.…".
    """
    with connection.cursor() as cursor:
        cursor.execute(ENTER)
        before = cursor.fetchone()[0]
    try:
        yield
    finally:
        # This statement fails in a failed transaction, but then the rollback restores the path.
        with suppress(Error), connection.cursor() as cursor:
            cursor.execute(LEAVE, [before])
