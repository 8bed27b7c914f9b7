"""The control database's tables about tenants. Names and types are the specification's; extra columns follow."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.contrib.postgres.functions import RandomUUID
from django.db import models
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _

from config.fields import SqlNow
from tenants.active import alias_of
from tenants.encryption import EncryptedTextField, mask_url
from tenants.naming import ID_PATTERN


class DatabaseServer(models.Model):
    """A PostgreSQL server that tenants can be placed on."""

    name = models.SlugField(_("name"), primary_key=True, max_length=63)
    admin_url = EncryptedTextField(
        _("administrator's URL"),
        help_text=_("postgresql://user:password@host:port/postgres of a role with CREATEDB and CREATEROLE."),
    )
    # None: no limit.
    capacity = models.PositiveIntegerField(_("capacity (tenants)"), null=True, blank=True)
    is_default = models.BooleanField(_("default"), default=False, db_default=False)
    is_active = models.BooleanField(_("takes new tenants"), default=True, db_default=True)
    created_at = models.DateTimeField(_("created"), db_default=SqlNow(), editable=False)

    class Meta:
        db_table = "database_servers"
        verbose_name = _("database server")
        verbose_name_plural = _("database servers")
        constraints = [
            models.UniqueConstraint(
                fields=["is_default"], condition=models.Q(is_default=True), name="database_servers_one_default"
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def masked_url(self) -> str:
        return mask_url(self.admin_url)


class TenantStatus(models.TextChoices):
    """provisioning → active ⇄ suspended; active → restoring → active; → deleting → deleted (a tombstone)."""

    PROVISIONING = "provisioning", _("provisioning")
    ACTIVE = "active", _("active")
    SUSPENDED = "suspended", _("suspended")
    RESTORING = "restoring", _("restoring")
    DELETING = "deleting", _("deleting")
    DELETED = "deleted", _("deleted")


class Tenant(models.Model):
    """A customer, and where its database is."""

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
    # What the tenant's own database must say it is, checked whenever a connection is opened.
    identity = models.UUIDField(_("identity"), default=uuid.uuid4, db_default=RandomUUID(), unique=True, editable=False)
    # Raised whenever warm connections must not be used again (moved, restored, suspended, erased).
    connection_version = models.IntegerField(default=0, db_default=0, editable=False)
    # Set before a run of this tenant is committed, cleared when none is unfinished: the sweep visits only these.
    work_seen_at = models.DateTimeField(null=True, editable=False)
    # The newest migration of each tenant app, as last seen in its database (`tenants.history`); "" where never looked.
    schema_version = models.TextField(_("schema version"), db_default="", editable=False)
    # In which points its schema differs from what those migrations make: [] none, None never compared.
    schema_drift = models.JSONField(_("schema drift"), null=True, editable=False)
    # The schema's fingerprint when it was last computed, and the stamp that the catalog's rows had then: as long as
    # they have it, the fingerprint is the same (`tenants.catalog`).
    schema_fingerprint = models.TextField(db_default="", editable=False)
    schema_stamp = models.TextField(db_default="", editable=False)
    schema_checked_at = models.DateTimeField(_("schema compared"), null=True, editable=False)

    class Meta:
        db_table = "tenants"
        verbose_name = _("tenant")
        verbose_name_plural = _("tenants")
        ordering = ["id"]
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

    @property
    def masked_url(self) -> str:
        return mask_url(self.database_url)


class TenantSchema(Tenant):
    """A tenant with its schema's state, as the fleet page shows it."""

    class Meta:
        proxy = True
        verbose_name = _("tenant in the fleet")
        verbose_name_plural = _("tenants in the fleet")
        ordering = ["id"]


class OperationStatus(models.TextChoices):
    RUNNING = "running", _("running")
    COMPLETED = "completed", _("completed")
    UNDONE = "undone", _("undone")


class TenantOperation(models.Model):
    """An operation on a tenant that takes several steps: recorded before it acts, so that `recover` can end it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, db_default=RandomUUID(), editable=False)
    # A plain value: the record outlives a tenant that was never finished.
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


class BatchStatus(models.TextChoices):
    """preparing → committing → completed, or preparing → rolling_back → rolled_back.

    The second one is the durable decision; a dry run that went well ends `completed`, though it is rolled back.
    """

    PREPARING = "preparing", _("preparing")
    COMMITTING = "committing", _("committing")
    ROLLING_BACK = "rolling_back", _("rolling back")
    COMPLETED = "completed", _("completed")
    ROLLED_BACK = "rolled_back", _("rolled back")


# A batch in one of these is at work, or was cut off.
UNFINISHED = (BatchStatus.PREPARING, BatchStatus.COMMITTING, BatchStatus.ROLLING_BACK)
# What the names of our prepared transactions begin with.
GID_PREFIX = "seo-gen:"


class MigrationBatch(models.Model):
    """One migration of tenants' databases, all or nothing: recorded before it acts, so that `recover` can end it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, db_default=RandomUUID(), editable=False)
    status = models.TextField(_("status"), choices=BatchStatus, db_default=BatchStatus.PREPARING)
    # "" where it is for all tenants. A plain value, as in `TenantOperation`.
    tenant_id = models.TextField(_("tenant"), db_default="")
    # Prepared like any other, then rolled back on purpose.
    dry_run = models.BooleanField(_("dry run"), db_default=False)
    user_id = models.TextField(_("by"))
    # The newest migration of each tenant app in the code that runs it.
    version = models.TextField(_("to version"))
    tenant_count = models.IntegerField(_("tenants"), db_default=0)
    # Those that had something to apply.
    pending_count = models.IntegerField(_("to migrate"), db_default=0)
    error = models.TextField(_("error"), db_default="")
    # Milliseconds by phase.
    timing_ms = models.JSONField(_("timing (ms)"), null=True)
    started_at = models.DateTimeField(_("started"), db_default=SqlNow())
    decided_at = models.DateTimeField(_("decided"), null=True)
    finished_at = models.DateTimeField(_("finished"), null=True)

    class Meta:
        db_table = "migration_batches"
        verbose_name = _("migration batch")
        verbose_name_plural = _("migration batches")
        ordering = ["-started_at"]
        constraints = [
            # One at a time, whatever becomes of the advisory lock.
            models.UniqueConstraint(
                models.Value(1),
                condition=models.Q(status__in=["preparing", "committing", "rolling_back"]),
                name="migration_batches_one_at_a_time",
            ),
        ]

    def __str__(self) -> str:
        return str(self.pk)

    @property
    def work(self) -> str:
        """What its sessions on the servers are called."""
        return f"migrate {self.pk}"

    def gid(self, tenant_id: str = "") -> str:
        """Return the name of a tenant's prepared transaction; without a tenant, what all of the batch begin with."""
        return f"{GID_PREFIX}{self.pk}:{tenant_id}"


class BatchTenant(models.Model):
    """A tenant with something to apply, in one batch; what became of it is the batch's status."""

    batch = models.ForeignKey(MigrationBatch, on_delete=models.CASCADE, related_name="tenants")
    tenant_id = models.TextField(_("tenant"))
    server = models.TextField(_("server"))
    database = models.TextField(_("database"))
    from_version = models.TextField(_("from version"))
    # ["runs.0003_x", …], in the order in which they are applied.
    migrations = models.JSONField(_("migrations"))
    # From the connection to the prepared transaction.
    prepared_ms = models.IntegerField(_("prepared in (ms)"), null=True)
    # How long its locks were held: from the first statement to the end of the transaction.
    locked_ms = models.IntegerField(_("locked for (ms)"), null=True)
    # {"runs": "AccessExclusiveLock"}: what a dry run found to be locked.
    locks = models.JSONField(_("locks"), null=True)
    error = models.TextField(_("error"), db_default="")

    class Meta:
        db_table = "migration_batch_tenants"
        verbose_name = _("tenant of a batch")
        verbose_name_plural = _("tenants of a batch")
        ordering = ["tenant_id"]
        constraints = [
            models.UniqueConstraint(fields=["batch", "tenant_id"], name="migration_batch_tenants_once"),
        ]

    def __str__(self) -> str:
        return self.tenant_id


def parse_gid(gid: str) -> tuple[str, str]:
    """Return (batch, tenant) of a prepared transaction's name."""
    _prefix, batch_id, tenant_id = gid.split(":")
    return batch_id, tenant_id


class SchemaReference(models.Model):
    """What a history of migrations makes of a tenant's database, on one server: found out once, compared with often."""

    server = models.ForeignKey(DatabaseServer, on_delete=models.CASCADE, related_name="+")
    # PostgreSQL's major version: another may word definitions differently.
    server_version = models.IntegerField()
    # sha256 of the applied migrations' names.
    history = models.TextField()
    version = models.TextField()
    # sha256 of the catalog, as `tenants.catalog` computes it in a database.
    fingerprint = models.TextField()
    # {"column runs.status": "text not null", …}
    catalog = models.JSONField()
    # The template database that is in this state, "" where there is none.
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


def database_prefix() -> str:
    """What the names of our databases and roles begin with; two installations on one server differ in it."""
    return str(settings.TENANT_DATABASE_PREFIX)
