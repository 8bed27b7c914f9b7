"""The schemas that tenants' databases should have."""

from __future__ import annotations

from django.db import models

from tenants.models.servers import DatabaseServer


class SchemaReference(models.Model):
    """The schema that a history of migrations creates on one server, stored so that it is computed only once."""

    server = models.ForeignKey(DatabaseServer, on_delete=models.CASCADE, related_name="+")
    # PostgreSQL's major version: another version may word definitions differently.
    server_version = models.IntegerField()
    # sha256 of the applied migrations' names.
    history = models.TextField()
    version = models.TextField()
    # sha256 of the catalog, as `tenants.schema.catalog` computes it in a database.
    fingerprint = models.TextField()
    # {"column runs.status": "text not null", …}
    catalog = models.JSONField()
    # The template database that is in this state; "" if there is none.
    template = models.TextField(db_default="")

    class Meta:
        db_table = "schema_references"
        constraints = [
            models.UniqueConstraint(
                fields=["server", "server_version", "history"], name="schema_references_one_per_history"
            )
        ]

    def __str__(self) -> str:
        return f"{self.server_id} {self.version}"
