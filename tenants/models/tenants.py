"""Tenants. The names and types of the first columns follow the specification; extra columns come last."""

from __future__ import annotations

import uuid

from django.contrib.postgres.functions import RandomUUID
from django.db import models
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _

from config.base.fields import SqlNow
from tenants.credentials import EncryptedTextField, mask_url
from tenants.errors import TenantWithoutServer
from tenants.models.servers import DatabaseServer
from tenants.naming import ID_PATTERN, alias_of


class TenantStatus(models.TextChoices):
    """provisioning → active ⇄ suspended; from either → restoring and back, or → deleting → deleted (a tombstone)."""

    PROVISIONING = "provisioning", _("provisioning")
    ACTIVE = "active", _("active")
    SUSPENDED = "suspended", _("suspended")
    RESTORING = "restoring", _("restoring")
    DELETING = "deleting", _("deleting")
    DELETED = "deleted", _("deleted")


class Tenant(models.Model):
    """A tenant, its settings, and where its database is."""

    id = models.TextField(_("id"), primary_key=True)
    name = models.TextField(_("name"))
    database_url = EncryptedTextField(_("database URL"))
    created_at = models.DateTimeField(_("created"), db_default=SqlNow(), editable=False)
    is_active = models.BooleanField(_("active"), default=True, db_default=True)
    # -- beyond the specification --
    status = models.TextField(_("status"), choices=TenantStatus, db_default=TenantStatus.ACTIVE)
    server = models.ForeignKey(
        DatabaseServer,
        verbose_name=_("server"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="tenants",
    )
    # The identity that the tenant's database must have, checked whenever a connection is opened.
    identity = models.UUIDField(_("identity"), default=uuid.uuid4, db_default=RandomUUID(), unique=True, editable=False)
    # The identity that the audit chain began with, if it is not the tenant's own: the tenant was restored or imported
    # from another tenant's database (`tenant restore --as`, `tenant import --id`).
    chain_identity = models.UUIDField(null=True, editable=False)
    # Incremented whenever warm connections must no longer be reused (moved, restored, suspended, erased).
    connection_version = models.IntegerField(default=0, db_default=0, editable=False)
    # Set before a run of this tenant is committed, cleared when no run is unfinished: the sweep visits only marked
    # tenants.
    work_seen_at = models.DateTimeField(null=True, editable=False)
    # How many of this tenant's steps may run at a time, across all workers; None: RUN_TENANT_CONCURRENCY.
    max_concurrent_steps = models.PositiveIntegerField(_("steps at a time"), null=True, blank=True)
    # The most that its calls may cost in a month (UTC), and in each run without a budget of its own, in US dollars;
    # None: no budget. A worker reads them with the tenant's row, when it enters the tenant's context.
    monthly_budget_usd = models.DecimalField(
        _("monthly budget (USD)"), max_digits=15, decimal_places=6, null=True, blank=True
    )
    run_budget_usd = models.DecimalField(
        _("budget per run (USD)"), max_digits=15, decimal_places=6, null=True, blank=True
    )
    # The newest migration of each tenant app, as last seen in its database (`tenants.schema.releases`); "" if never
    # checked.
    schema_version = models.TextField(_("schema version"), db_default="", editable=False)
    # How its schema differs from what those migrations create; [] if it does not, None if never compared.
    schema_drift = models.JSONField(_("schema drift"), null=True, editable=False)
    # The schema's fingerprint when it was last computed, and the stamp of the catalog's rows at that time: while the
    # stamp is the same, so is the fingerprint (`tenants.schema.catalog`).
    schema_fingerprint = models.TextField(db_default="", editable=False)
    schema_stamp = models.TextField(db_default="", editable=False)
    schema_checked_at = models.DateTimeField(_("schema compared"), null=True, editable=False)

    class Meta:
        db_table = "tenants"
        verbose_name = _("tenant")
        verbose_name_plural = _("tenants")
        ordering = ["id"]
        permissions = [
            ("backup_tenant", "Can back up tenants"),
            ("restore_tenant", "Can restore tenants"),
            ("export_tenant", "Can export tenants and download exports"),
            ("copy_tenant", "Can copy tenants"),
            ("drill_tenant", "Can rehearse restores of tenants"),
            ("migrate_fleet", "Can migrate the databases of all tenants"),
            ("approve_operation", "Can approve what others ask for"),
        ]
        constraints = [
            models.CheckConstraint(condition=models.Q(id__regex=ID_PATTERN), name="tenants_id_is_a_slug"),
            models.CheckConstraint(condition=models.Q(status__in=TenantStatus.values), name="tenants_status_is_known"),
            models.UniqueConstraint(
                Lower("name"), condition=~models.Q(status="deleted"), name="tenants_name_is_unique_among_the_living"
            ),
        ]
        indexes = [
            models.Index(
                fields=["work_seen_at"], condition=models.Q(work_seen_at__isnull=False), name="tenants_at_work"
            )
        ]

    def __str__(self) -> str:
        return self.id

    @property
    def alias(self) -> str:
        return alias_of(self.id)

    def require_server(self) -> DatabaseServer:
        """Return the server that the tenant's database is on; raise `TenantWithoutServer` if none is registered."""
        if self.server is None:
            raise TenantWithoutServer(self.id)
        return self.server

    @property
    def masked_url(self) -> str:
        return mask_url(self.database_url)


class TenantSchema(Tenant):
    """A tenant with its schema's state, for the fleet page."""

    class Meta:
        proxy = True
        verbose_name = _("tenant in the fleet")
        verbose_name_plural = _("tenants in the fleet")
        ordering = ["id"]
