"""Ask a database about itself without trusting what its owner put into it.

The one way into the catalog, and to rows that are compared there, of a tenant's or a guest's database:
tests/test_catalog_only.py finds every statement that is executed outside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import Error

# Neither SHOW nor SET looks anything up by the path that they read and change. `pg_temp` is named because it would
# come first otherwise.
ENTER = "SHOW search_path; SET search_path = pg_catalog, pg_temp"
LEAVE = "SELECT pg_catalog.set_config('search_path', %s, false)"


@contextmanager
def catalog_only(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Resolve functions, operators and types in pg_catalog alone; contexts may be nested.

    With "public" in the path, PostgreSQL prefers a function there whose arguments fit better: `public.convert_to(text,
    text)` to its own `convert_to(text, name)`, `public.>=(oid, integer)` to `>=(oid, oid)`. Whoever may create one
    would run code as whoever asks, and decide how an entry's hash or a guard looks. Tables are written "public.…".
    """
    with connection.cursor() as cursor:
        cursor.execute(ENTER)
        before = cursor.fetchone()[0]
    try:
        yield
    finally:
        # In a transaction that failed, rolling back does it.
        with suppress(Error), connection.cursor() as cursor:
            cursor.execute(LEAVE, [before])
