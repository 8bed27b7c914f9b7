"""The specification's column type `SERIAL` and default `now()`, which Django does not have."""

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper


class SerialField(models.AutoField):  # type: ignore[type-arg]
    """The specification's `SERIAL`.

    Django's ``AutoField`` creates an identity column, which shows no default in ``information_schema.columns``.
    """

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "serial"

    def rel_db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "integer"

    def db_type_suffix(self, connection: BaseDatabaseWrapper) -> None:
        return None


class SqlNow(models.Func):
    """The specification's default `now()`; Django's `Now` is `statement_timestamp()` on PostgreSQL."""

    function = "now"
    output_field = models.DateTimeField()
