"""Erased tenants: what was to be erased, how far the erasure got, and the certificate. The rows are the ledger."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from tenants.models.operations import TenantOperation


class ErasurePhase(models.TextChoices):
    """The last durable step; after a crash the next one is repeated."""

    RECORDED = "recorded", _("recorded")
    CLOSED = "closed", _("closed")
    MARKED = "marked", _("marked in the server's WAL")
    ARCHIVED = "archived", _("audit log archived")
    LISTED = "listed", _("listed")
    STORAGE = "storage", _("storage erased")
    BACKUPS = "backups", _("backups erased")
    MESSAGES = "messages", _("messages erased")
    DATABASES = "databases", _("databases dropped")
    CREDENTIALS = "credentials", _("roles dropped")
    DONE = "done", _("done")


class Erasure(models.Model):
    """The erasure of one tenant. The row is never removed, and holds the certificate.

    Because of it, the tenant's data can be restored or imported again only if a reason is given.
    """

    operation = models.OneToOneField(
        TenantOperation, primary_key=True, on_delete=models.PROTECT, related_name="erasure", verbose_name=_("operation")
    )
    tenant_id = models.TextField(_("tenant"), unique=True)
    identity = models.UUIDField(_("identity"), unique=True)
    # The identity that its audit chain began with (`Tenant.chain_identity`).
    chain_identity = models.UUIDField()
    phase = models.TextField(_("phase"), choices=ErasurePhase, db_default=ErasurePhase.RECORDED)
    # The server's name: the server may be removed once no tenant is on it.
    server = models.TextField(_("server"))
    database = models.TextField(_("database"))
    role = models.TextField()
    # What the operator agreed to lose or leave behind (`tenants.erasure.steps.AUDIT_LOSS`, `LOST_BACKUPS`).
    accepts = models.JSONField(default=list, db_default=[])
    # What each step found, by phase; the certificate is built from it.
    found = models.JSONField(_("found"), default=dict, db_default={})
    # The certificate (`tenants.erasure.certificate`), and its sha256, which the control audit log also holds.
    certificate = models.JSONField(_("certificate"), null=True)
    digest = models.TextField(_("SHA-256"), db_default="")
    completed_at = models.DateTimeField(_("erased"), null=True)
    # When the control database's tables were rewritten without old row versions about the tenant
    # (`tenants.pitr.dead_rows`), and the last segment of its server's WAL that may still hold them.
    rewritten_at = models.DateTimeField(null=True)
    rewritten_segment = models.TextField(db_default="")

    class Meta:
        db_table = "erasures"
        verbose_name = _("erasure")
        verbose_name_plural = _("erasures")
        ordering = ["-operation__started_at"]

    def __str__(self) -> str:
        return self.tenant_id
