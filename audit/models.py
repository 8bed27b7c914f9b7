"""The audit log of a tenant's database, and the base models it shares with the control database's log."""

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from audit.titles import heading
from config.base.fields import SerialField, SqlNow


class AuditEntry(models.Model):
    """An audit entry. Never updated or deleted: the database rejects both (see `audit.log.chain_sql`).

    `user_id` is text and not a foreign key, so deleting an account does not change the log.
    """

    id = SerialField(primary_key=True)
    user_id = models.TextField(_("by"))
    action = models.TextField(_("action"))
    resource_type = models.TextField(_("resource"))
    resource_id = models.TextField(_("resource id"))
    # Such as ids, names, settings and digests, but neither content nor secrets.
    details = models.JSONField(_("details"), null=True)
    created_at = models.DateTimeField(_("time"), db_default=SqlNow())
    # -- Not in the specification. The trigger sets `id`, `created_at` and the first three of these in every INSERT. --
    sequence = models.BigIntegerField(_("sequence"), unique=True, db_default=0)
    previous_hash = models.TextField(_("previous hash"), db_default="")
    entry_hash = models.TextField(_("hash"), db_default="")
    # Shared by all entries of one command or request.
    operation_id = models.TextField(_("operation"), null=True)

    class Meta:
        abstract = True
        ordering: ClassVar = ["-id"]
        verbose_name = _("audit entry")
        verbose_name_plural = _("audit entries")

    def __str__(self) -> str:
        return heading(self.action, self.resource_type, self.resource_id)


class ChainHeadRow(models.Model):
    """The end of a log's hash chain: one row, which the application can neither read nor change.

    The owner's trigger function updates it.
    """

    only_row = models.BooleanField(primary_key=True, default=True, db_default=True)
    # 0: no entries yet; `hash` is then the genesis hash (see `audit.log.chain_sql.BIND_CHAIN_SQL`).
    sequence = models.BigIntegerField(db_default=0)
    hash = models.TextField()

    class Meta:
        abstract = True
        constraints: ClassVar = [models.CheckConstraint(condition=models.Q(only_row=True), name="%(class)s_one_row")]

    def __str__(self) -> str:
        return f"{self.sequence} {self.hash}"


class AuditLog(AuditEntry):
    # Privileges of the tenant's role on this table (see tenants.schema.template).
    database_privileges: ClassVar = ("SELECT", "INSERT")

    class Meta(AuditEntry.Meta):
        db_table = "audit_logs"


class AuditChainHead(ChainHeadRow):
    database_privileges: ClassVar = ()

    class Meta(ChainHeadRow.Meta):
        db_table = "audit_chain_heads"
