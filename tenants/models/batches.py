"""All-or-nothing changes to one or more tenants, recorded before they start."""

from __future__ import annotations

import uuid

from django.contrib.postgres.functions import RandomUUID
from django.db import models
from django.utils.translation import gettext_lazy as _

from config.base.fields import SqlNow
from config.base.times import to_minute


class BatchStatus(models.TextChoices):
    """preparing → committing → completed, or preparing → rolling_back → rolled_back.

    The second state is the durable decision. A successful dry run of a migration ends as `completed`, although it is
    rolled back. If there is nothing to apply, a batch goes straight from `preparing` to `completed`; a preview of a
    copy is recorded as `completed`.
    """

    PREPARING = "preparing", _("preparing")
    COMMITTING = "committing", _("committing")
    ROLLING_BACK = "rolling_back", _("rolling back")
    COMPLETED = "completed", _("completed")
    ROLLED_BACK = "rolled_back", _("rolled back")


class BatchKind(models.TextChoices):
    """What a batch changes in its tenants' databases."""

    MIGRATE = "migrate", _("migration")
    # Versions of prompts from one tenant (`prompts.fleet`), or its undo.
    PROMPT_COPY = "prompt_copy", _("copy of prompts")


# A batch in one of these states is running or was interrupted.
UNFINISHED = (BatchStatus.PREPARING, BatchStatus.COMMITTING, BatchStatus.ROLLING_BACK)
# The start of our prepared transactions' names.
GID_PREFIX = "seo-gen:"


class MigrationBatch(models.Model):
    """An all-or-nothing change to tenants' databases, recorded first, so that `recover` can commit it or roll it back.

    A preview of a copy of prompts, which changes nothing, is recorded once it has finished.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, db_default=RandomUUID(), editable=False)
    status = models.TextField(_("status"), choices=BatchStatus, db_default=BatchStatus.PREPARING)
    # "" for all tenants, and for every copy of prompts. Not a foreign key, as in `TenantOperation`.
    tenant_id = models.TextField(_("tenant"), db_default="")
    # Prepared like any other, then rolled back on purpose.
    dry_run = models.BooleanField(_("dry run"), db_default=False)
    user_id = models.TextField(_("by"))
    # The newest migration of each tenant app in the code that runs it; for a copy, the versions that are copied.
    version = models.TextField(_("to version"))
    tenant_count = models.IntegerField(_("tenants"), db_default=0)
    # Tenants that had something to apply.
    pending_count = models.IntegerField(_("to migrate"), db_default=0)
    error = models.TextField(_("error"), db_default="")
    # Milliseconds by phase.
    timing_ms = models.JSONField(_("timing (ms)"), null=True)
    started_at = models.DateTimeField(_("started"), db_default=SqlNow())
    decided_at = models.DateTimeField(_("decided"), null=True)
    finished_at = models.DateTimeField(_("finished"), null=True)
    kind = models.TextField(_("kind"), choices=BatchKind, db_default=BatchKind.MIGRATE)
    # The copy of prompts that this one undoes.
    undoes = models.UUIDField(_("undoes"), null=True)

    class Meta:
        db_table = "migration_batches"
        verbose_name = _("migration batch")
        verbose_name_plural = _("migration batches")
        ordering = ["-started_at"]
        constraints = [
            # One at a time, even if the advisory lock is lost.
            models.UniqueConstraint(
                models.Value(1),
                condition=models.Q(status__in=["preparing", "committing", "rolling_back"]),
                name="migration_batches_one_at_a_time",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {to_minute(self.started_at)}"

    @property
    def work(self) -> str:
        """Return the name of the batch's work, which becomes part of the names of its sessions on the servers."""
        return f"{'migrate' if self.kind == BatchKind.MIGRATE else 'copy'} {self.pk}"

    def gid(self, database: str = "") -> str:
        """Return the name of the prepared transaction in a tenant's database; without `database`, the batch's prefix.

        Anyone who can log in to the server can read these names, so they contain no tenant id.
        """
        return f"{GID_PREFIX}{self.pk}:{database}"


class BatchTenant(models.Model):
    """A tenant with something to apply in one batch.

    Its outcome is the batch's status, unless someone else rolled back its prepared transaction.
    """

    batch = models.ForeignKey(MigrationBatch, on_delete=models.CASCADE, related_name="tenants")
    tenant_id = models.TextField(_("tenant"))
    server = models.TextField(_("server"))
    database = models.TextField(_("database"))
    from_version = models.TextField(_("from version"))
    # ["runs.0003_x", …], in the order in which they are applied.
    migrations = models.JSONField(_("migrations"))
    # From connecting until the transaction was prepared.
    prepared_ms = models.IntegerField(_("prepared in (ms)"), null=True)
    # How long its locks were held: from the first statement to the end of the transaction.
    locked_ms = models.IntegerField(_("locked for (ms)"), null=True)
    # {"runs": "AccessExclusiveLock"}: the locks that a dry run took.
    locks = models.JSONField(_("locks"), null=True)
    error = models.TextField(_("error"), db_default="")
    # For a copy of prompts: a list of `prompts.fleet.types.Change` documents, which its undo needs.
    changes = models.JSONField(_("changes"), null=True)

    class Meta:
        db_table = "migration_batch_tenants"
        verbose_name = _("tenant in a batch")
        verbose_name_plural = _("tenants in a batch")
        ordering = ["tenant_id"]
        constraints = [
            models.UniqueConstraint(fields=["batch", "tenant_id"], name="migration_batch_tenants_once"),
        ]

    def __str__(self) -> str:
        return self.tenant_id


def parse_gid(gid: str) -> tuple[str, str]:
    """Return the batch's id and the database from the name of one of our prepared transactions.

    Names made by older releases have the tenant's id in place of the database.
    """
    _prefix, batch_id, database = gid.split(":")
    return batch_id, database


def batch_of(gid: str) -> uuid.UUID | None:
    """Return the id of the batch in a prepared transaction's name, or None if it has none.

    Anyone can choose such a name: check the transaction's owner too.
    """
    try:
        prefix, batch_id, _database = gid.split(":")
        return uuid.UUID(batch_id) if f"{prefix}:" == GID_PREFIX else None
    except ValueError:
        return None
