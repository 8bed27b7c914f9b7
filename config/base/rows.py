"""Make objects from handwritten SQL, for frequent queries, such as those that workers make at each step.

Django takes longer to compose such a query than PostgreSQL takes to answer it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, LiteralString, TypeVar

from django.db import connections
from django.db.models import Model

ModelT = TypeVar("ModelT", bound=Model)


def fetch_one(
    alias: str, statement: LiteralString, values: Mapping[str, Any] | Sequence[Any]
) -> tuple[Any, ...] | None:
    """Execute the statement and return its first row, or None if there is no row."""
    with connections[alias].cursor() as cursor:
        cursor.execute(statement, values)
        row: tuple[Any, ...] | None = cursor.fetchone()
        return row


def object_of(model: type[ModelT], alias: str, columns: Iterable[str], values: Iterable[Any]) -> ModelT:
    """Return an object of the model with the values of these columns, as if Django had read them.

    Columns that are missing are read when they are needed.
    """
    given = dict(zip(columns, values, strict=True))
    # `from_db` takes the values in the order of the model's fields.
    fields = [field for field in model._meta.concrete_fields if field.attname in given]
    for field in fields:
        for convert in field.get_db_converters(connections[alias]):
            given[field.attname] = convert(given[field.attname], None, connections[alias])
    names = [field.attname for field in fields]
    return model.from_db(alias, names, [given[name] for name in names])
