"""Ask a database about itself without trusting what its owner put into it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import Error


@contextmanager
def catalog_only(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Have functions and operators looked for in pg_catalog alone.

    With "public" in the path, PostgreSQL prefers a function there whose arguments fit better: `public.convert_to(text,
    text)` to its own `convert_to(text, name)`, `public.concat_ws(text, text, text)` to one of any arguments. An owner
    could so decide what an entry's hash is computed from, and how its guards look. Tables are to be written "public.…".
    """
    with connection.cursor() as cursor:
        cursor.execute("SET search_path = pg_catalog")
    try:
        yield
    finally:
        # In a transaction that failed, rolling back does it.
        with suppress(Error), connection.cursor() as cursor:
            cursor.execute("RESET search_path")
