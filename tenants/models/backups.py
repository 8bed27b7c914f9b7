"""Backups of individual tenants, and the restores that replaced their databases."""

from __future__ import annotations

import uuid

from django.contrib.postgres.functions import RandomUUID
from django.db import models
from django.utils.translation import gettext_lazy as _

from config.base.fields import SqlNow
from tenants.models.operations import TenantOperation


class BackupStatus(models.TextChoices):
    """running → completed or failed; any of them → removed, once no files are left."""

    RUNNING = "running", _("running")
    COMPLETED = "completed", _("completed")
    FAILED = "failed", _("failed")
    REMOVED = "removed", _("removed")


class BackupKind(models.TextChoices):
    BACKUP = "backup", _("backup")
    EXPORT = "export", _("export")


class Backup(models.Model):
    """A backup or an export of one tenant, recorded before its files are written, so that no file is forgotten."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, db_default=RandomUUID(), editable=False)
    # Not a foreign key: the record outlives the tenant.
    tenant_id = models.TextField(_("tenant"))
    identity = models.UUIDField(_("identity"))
    kind = models.TextField(_("kind"), choices=BackupKind, db_default=BackupKind.BACKUP)
    status = models.TextField(_("status"), choices=BackupStatus, db_default=BackupStatus.RUNNING)
    # An absolute folder or s3://bucket/prefix, and the file's name in it; related files are named after it.
    place = models.TextField(_("place"))
    name = models.TextField(_("file"))
    # "custom" or "plain", as in pg_dump; "bundle" for an export.
    format = models.TextField(_("format"))
    # The age recipient (public key) that it is encrypted to; "" if it is not encrypted.
    recipient = models.TextField(_("encrypted to"), db_default="")
    size_bytes = models.BigIntegerField(_("size (bytes)"), null=True)
    # Also stored beside a backup's file, or inside an export's bundle; None until the backup is completed.
    manifest = models.JSONField(_("manifest"), null=True)
    schema_version = models.TextField(_("schema version"), db_default="")
    user_id = models.TextField(_("by"))
    error = models.TextField(_("error"), db_default="")
    started_at = models.DateTimeField(_("started"), db_default=SqlNow())
    finished_at = models.DateTimeField(_("finished"), null=True)
    # When it was last restored into a scratch database and compared, and what was wrong; "" if nothing was.
    verified_at = models.DateTimeField(_("verified"), null=True)
    verify_error = models.TextField(_("found by verification"), db_default="")
    removed_at = models.DateTimeField(_("removed"), null=True)

    class Meta:
        db_table = "backups"
        verbose_name = _("backup")
        verbose_name_plural = _("backups")
        ordering = ["-started_at"]
        constraints = [models.UniqueConstraint(fields=["place", "name"], name="backups_one_per_file")]
        indexes = [models.Index(fields=["tenant_id", "-started_at"], name="backups_of_tenant")]

    def __str__(self) -> str:
        return self.name


class RestorePhase(models.TextChoices):
    """The last durable step, which decides whether `recover` undoes or finishes the restore.

    building: nothing has been replaced; swapping: the tenant is closed, and the databases may have been renamed, which
    only the server knows; serving: the tenant uses its new database; done: nothing is left to do. A clone or an import
    goes straight from building to done.
    """

    BUILDING = "building", _("building")
    SWAPPING = "swapping", _("swapping")
    SERVING = "serving", _("serving")
    DONE = "done", _("done")


class Restore(models.Model):
    """One restore, undo, clone or import: what is needed to finish or undo it, and what it replaced."""

    operation = models.OneToOneField(
        TenantOperation, primary_key=True, on_delete=models.CASCADE, related_name="restore", verbose_name=_("operation")
    )
    tenant_id = models.TextField(_("tenant"))
    phase = models.TextField(_("phase"), choices=RestorePhase, db_default=RestorePhase.BUILDING)
    # A file, "the state at …", or "the database replaced by the operation of …".
    source = models.TextField(_("from"))
    # Databases on the tenant's server: the one being built, the one in use, and the new name of the replaced one.
    scratch = models.TextField(db_default="")
    live = models.TextField(db_default="")
    kept = models.TextField(_("replaced database"), db_default="")
    # The replaced database is kept for `--undo` until then; None if no database was kept, or it is gone.
    kept_until = models.DateTimeField(_("kept until"), null=True)
    # {"lost_runs": […], "orphans": […], …}: differences from the replaced state.
    report = models.JSONField(_("report"), null=True)

    class Meta:
        db_table = "tenant_restores"
        verbose_name = _("restore")
        verbose_name_plural = _("restores")
        ordering = ["-operation__started_at"]

    def __str__(self) -> str:
        return f"{self.tenant_id}: {self.source.rpartition('/')[2] or self.source}"
