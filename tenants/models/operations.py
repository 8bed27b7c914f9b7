"""Operations on one tenant, recorded before they start."""

from __future__ import annotations

import uuid

from django.contrib.postgres.functions import RandomUUID
from django.db import models
from django.utils.translation import gettext_lazy as _

from config.base.fields import SqlNow


class OperationStatus(models.TextChoices):
    RUNNING = "running", _("running")
    COMPLETED = "completed", _("completed")
    UNDONE = "undone", _("undone")


class TenantOperation(models.Model):
    """A multi-step operation on a tenant: recorded before it starts, so that `recover` can finish or undo it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, db_default=RandomUUID(), editable=False)
    # Not a foreign key: the record outlives a tenant whose creation never finished.
    tenant_id = models.TextField(_("tenant"))
    kind = models.TextField(_("operation"))
    status = models.TextField(_("status"), choices=OperationStatus, db_default=OperationStatus.RUNNING)
    user_id = models.TextField(_("by"))
    error = models.TextField(_("error"), db_default="")
    started_at = models.DateTimeField(_("started"), db_default=SqlNow())
    finished_at = models.DateTimeField(_("finished"), null=True)

    class Meta:
        db_table = "tenant_operations"
        verbose_name = _("operation")
        verbose_name_plural = _("operations")
        ordering = ["-started_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant_id"], condition=models.Q(status="running"), name="tenant_operations_one_at_a_time"
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.tenant_id}"
