"""Model fields that reproduce the specification's column types where Django's own differ."""

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper


class SerialField(models.AutoField):  # type: ignore[type-arg]
    """`SERIAL`, as the specification writes it.

    Django's ``AutoField`` creates an identity column, whose default does not show in ``information_schema.columns``.
    """

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "serial"

    def rel_db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "integer"

    def db_type_suffix(self, connection: BaseDatabaseWrapper) -> None:
        return None


class SqlNow(models.Func):
    """`now()`, as the specification's defaults have it; Django's own `Now` is `statement_timestamp()` on PostgreSQL."""

    function = "now"
    output_field = models.DateTimeField()
