"""The one row that identifies the tenant that a database belongs to."""

from django.db import models


class TenantIdentity(models.Model):
    """The tenant that the database belongs to, checked whenever the tenant's role opens a connection."""

    # What the tenant's role may do with the table (see tenants.schema.grants).
    database_privileges = ("SELECT",)

    only_row = models.BooleanField(primary_key=True, default=True, db_default=True)
    tenant_id = models.TextField()
    identity = models.UUIDField()

    class Meta:
        db_table = "tenant_identity"
        constraints = [models.CheckConstraint(condition=models.Q(only_row=True), name="tenant_identity_one_row")]

    def __str__(self) -> str:
        return self.tenant_id
