"""The control database's audit log, the archived logs of erased tenants, and the anchors."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.contrib.postgres.functions import RandomUUID
from django.db import models
from django.utils.translation import gettext_lazy as _

from audit.models import AuditEntry, ChainHeadRow
from audit.titles import heading
from config.base.fields import SqlNow


class ControlAuditLog(AuditEntry):
    """An entry of the control log: an operator's command, a login, a change by staff, or the product's own work."""

    class Meta(AuditEntry.Meta):
        db_table = "control_audit_logs"


class ControlAuditChainHead(ChainHeadRow):
    class Meta(ChainHeadRow.Meta):
        db_table = "control_audit_chain_heads"


class AuditArchive(models.Model):
    """The summary of an erased tenant's audit log; `ArchivedAuditLog` holds its entries.

    It is written once, after the entries; the database then refuses further rows with the same identity in both tables.
    Rows of both tables can never be changed or removed.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, db_default=RandomUUID(), editable=False)
    tenant_id = models.TextField(_("tenant"))
    identity = models.UUIDField(_("identity"), unique=True)
    # The identity that the chain starts with (`tenants.models.Tenant.chain_identity`).
    chain_identity = models.UUIDField(_("identity of the chain"))
    entries = models.BigIntegerField(_("entries"))
    # The last entry's hash, or the genesis hash if the log has no entries.
    head_hash = models.TextField(_("last hash"))
    # The first entry that broke the chain when the log was archived, or the number after the last
    # entry if the chain's head did not match; None if the chain was intact.
    first_bad = models.BigIntegerField(_("broken at entry"), null=True)
    # sha256 of the entries in the format of `audit.log.file_format`, one JSON document per line.
    digest = models.TextField(_("SHA-256"))
    archived_at = models.DateTimeField(_("archived"), db_default=SqlNow())

    class Meta:
        db_table = "audit_archives"
        verbose_name = _("archived audit log")
        verbose_name_plural = _("archived audit logs")
        ordering: ClassVar = ["-archived_at"]

    def __str__(self) -> str:
        return self.tenant_id


class ArchivedAuditLog(models.Model):
    """One entry of an erased tenant's log, with its original values, hashes included, but another id."""

    id = models.BigAutoField(primary_key=True)
    tenant_id = models.TextField(_("tenant"))
    # Not a foreign key, because the `AuditArchive` row is written after the entries.
    identity = models.UUIDField(_("identity"))
    sequence = models.BigIntegerField(_("sequence"))
    previous_hash = models.TextField(_("previous hash"))
    entry_hash = models.TextField(_("hash"))
    created_at = models.DateTimeField(_("time"))
    user_id = models.TextField(_("by"))
    action = models.TextField(_("action"))
    resource_type = models.TextField(_("resource"))
    resource_id = models.TextField(_("resource id"))
    details = models.JSONField(_("details"), null=True)
    operation_id = models.TextField(_("operation"), null=True)

    class Meta:
        db_table = "archived_audit_logs"
        verbose_name = _("archived audit entry")
        verbose_name_plural = _("archived audit entries")
        ordering: ClassVar = ["-id"]
        # Not unique: a log that was tampered with is archived too.
        indexes: ClassVar = [
            models.Index(fields=["identity", "sequence"], name="archived_audit_logs_of_chain"),
            models.Index(fields=["tenant_id", "-id"], name="archived_audit_logs_of_tenant"),
        ]

    def __str__(self) -> str:
        return heading(self.action, self.resource_type, self.resource_id)


class AuditAnchor(models.Model):
    """The end of a log at one point in time.

    The log must keep an entry with this number and hash, unless a restore or an undo replaces the
    log. That way, later changes are detected. The anchor of an empty log has the number 0 and the
    genesis hash.
    """

    id = models.BigAutoField(primary_key=True)
    # Anchors taken together share this; the control log's "audit.anchor" entry holds their digest
    # (`audit.verification.anchors`).
    run = models.UUIDField(_("run"))
    # "" and None for the control database's own log.
    tenant_id = models.TextField(_("tenant"))
    identity = models.UUIDField(_("identity"), null=True)
    sequence = models.BigIntegerField(_("sequence"))
    hash = models.TextField(_("hash"))
    # sha256 of the log's guards (`audit.verification.guard_check`).
    guard_hash = models.TextField(_("guards"))
    # Just before the logs were read, by the control database's clock.
    created_at = models.DateTimeField(_("time"))

    class Meta:
        db_table = "audit_anchors"
        verbose_name = _("audit anchor")
        verbose_name_plural = _("audit anchors")
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [
            models.Index(fields=["identity", "-id"], name="audit_anchors_of_log"),
            models.Index(fields=["run"], name="audit_anchors_of_run"),
        ]

    def __str__(self) -> str:
        return f"{self.tenant_id} {self.sequence}"
