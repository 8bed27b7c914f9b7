"""Approvals of operations by a second person."""

from __future__ import annotations

import uuid

from django.contrib.postgres.functions import RandomUUID
from django.db import models
from django.utils.translation import gettext_lazy as _

from config.base.fields import SqlNow


class ApprovalKind(models.TextChoices):
    """What can need an approval; the values are those that TWO_PERSON_OPERATIONS takes (`config.base.approvals`)."""

    DELETE = "delete", _("deletion of a tenant")
    EXPORT = "export", _("export of a tenant")
    COPY_ALL = "prompt-copy-all", _("prompts to all tenants")
    PRICE = "price-by-hand", _("price by hand")


class ApprovalStatus(models.TextChoices):
    """requested → approved → used; requested → rejected or withdrawn; approved → withdrawn.

    An approval that is requested or approved counts only until `expires_at`; its status does not change then.
    """

    REQUESTED = "requested", _("waits for a decision")
    APPROVED = "approved", _("approved")
    REJECTED = "rejected", _("rejected")
    WITHDRAWN = "withdrawn", _("withdrawn")
    USED = "used", _("used")


class Approval(models.Model):
    """A request for permission to carry out one operation once, with exactly these arguments; it expires."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, db_default=RandomUUID(), editable=False)
    kind = models.TextField(_("operation"), choices=ApprovalKind)
    # "" for all tenants. Not a foreign key: the record outlives the tenant.
    tenant_id = models.TextField(_("tenant"), db_default="")
    arguments = models.JSONField(_("arguments"))
    # sha256 of kind, tenant and arguments in canonical form: what is approved, and what may be done.
    digest = models.TextField(_("SHA-256"))
    status = models.TextField(_("status"), choices=ApprovalStatus, db_default=ApprovalStatus.REQUESTED)
    # As in the audit log, and the account's id; None for an operator.
    requested_by = models.TextField(_("requested by"))
    requester_id = models.BigIntegerField(null=True, editable=False)
    reason = models.TextField(_("reason"))
    requested_at = models.DateTimeField(_("requested"), db_default=SqlNow())
    expires_at = models.DateTimeField(_("expires"))
    decided_by = models.TextField(_("decided by"), db_default="")
    decider_id = models.BigIntegerField(null=True, editable=False)
    decided_at = models.DateTimeField(_("decided"), null=True)
    note = models.TextField(_("note"), db_default="")
    used_at = models.DateTimeField(_("used at"), null=True)
    used_by = models.TextField(_("used by"), db_default="")
    # The request or command that used it: the id that its entries in the audit log have.
    used_for = models.TextField(_("used for"), db_default="")

    class Meta:
        db_table = "approvals"
        verbose_name = _("approval")
        verbose_name_plural = _("approvals")
        ordering = ["-requested_at"]
        indexes = [models.Index(fields=["status", "-requested_at"], name="approvals_by_status")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.tenant_id}" if self.tenant_id else self.get_kind_display()
