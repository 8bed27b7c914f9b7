"""Base backups of whole servers, and restore points in their write-ahead logs, for point-in-time restores."""

from __future__ import annotations

import uuid

from django.contrib.postgres.functions import RandomUUID
from django.db import models
from django.utils.translation import gettext_lazy as _

from config.base.fields import SqlNow
from tenants.models.backups import BackupStatus
from tenants.models.servers import DatabaseServer


class BaseBackup(models.Model):
    """A base backup of one server (pg_basebackup), recorded before it starts."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, db_default=RandomUUID(), editable=False)
    server = models.ForeignKey(DatabaseServer, verbose_name=_("server"), on_delete=models.PROTECT, related_name="+")
    # The backup that it is based on, if it is incremental (PostgreSQL 17 and newer).
    parent = models.ForeignKey(
        "self", verbose_name=_("builds on"), null=True, on_delete=models.PROTECT, related_name="children"
    )
    status = models.TextField(_("status"), choices=BackupStatus, db_default=BackupStatus.RUNNING)
    # An absolute folder or s3://bucket/prefix, and the backup's name in it.
    place = models.TextField(_("place"))
    name = models.TextField(_("name"))
    # PostgreSQL's major version, and the cluster's system identifier.
    server_version = models.IntegerField(_("PostgreSQL"), null=True)
    system_identifier = models.TextField(_("system identifier"), db_default="")
    timeline = models.IntegerField(_("timeline"), null=True)
    # Recovery reads the WAL from the first position, and cannot end before the second: "0/3000028".
    start_lsn = models.TextField(_("from"), db_default="")
    stop_lsn = models.TextField(_("to"), db_default="")
    size_bytes = models.BigIntegerField(_("size (bytes)"), null=True)
    user_id = models.TextField(_("by"))
    error = models.TextField(_("error"), db_default="")
    started_at = models.DateTimeField(_("started"), db_default=SqlNow())
    # The earliest time that can be recovered to, by the server's clock.
    finished_at = models.DateTimeField(_("finished"), null=True)
    # When pg_verifybackup last found it intact.
    verified_at = models.DateTimeField(_("verified"), null=True)
    removed_at = models.DateTimeField(_("removed"), null=True)

    class Meta:
        db_table = "base_backups"
        verbose_name = _("base backup")
        verbose_name_plural = _("base backups")
        ordering = ["-started_at"]
        constraints = [models.UniqueConstraint(fields=["place", "name"], name="base_backups_one_per_name")]

    def __str__(self) -> str:
        return self.name


class RestorePoint(models.Model):
    """A named point in a server's WAL, created before a migration, a restore, a deletion or a prune."""

    server = models.ForeignKey(DatabaseServer, verbose_name=_("server"), on_delete=models.CASCADE, related_name="+")
    # As PostgreSQL knows it (pg_create_restore_point); at most 63 bytes.
    name = models.TextField(_("name"), unique=True)
    lsn = models.TextField(_("position in the WAL"))
    # What was about to happen, such as "restore" or "migrate", and to which tenant; "" for all tenants.
    reason = models.TextField(_("before"))
    tenant_id = models.TextField(_("tenant"), db_default="")
    # By the server's clock.
    created_at = models.DateTimeField(_("created"))

    class Meta:
        db_table = "restore_points"
        verbose_name = _("restore point")
        verbose_name_plural = _("restore points")
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.name
