"""The PostgreSQL servers that tenants live on, and the prefix of our database and role names on them."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from config.base.fields import SqlNow
from tenants.credentials import EncryptedTextField, mask_url


class DatabaseServer(models.Model):
    """A PostgreSQL server that tenants can be placed on."""

    name = models.SlugField(_("name"), primary_key=True, max_length=63)
    admin_url = EncryptedTextField(
        _("administrator's URL"),
    )
    # The password of the role that owns the tenants' tables. The owner's sessions log in as this role, so that nothing
    # that runs in them can gain rights by RESET ROLE. "" until the server has been set up (`tenants.lifecycle.setup`).
    owner_password = EncryptedTextField(_("owner's password"), blank=True, default="", db_default="", editable=False)
    # None for no limit.
    capacity = models.PositiveIntegerField(_("capacity (tenants)"), null=True, blank=True)
    is_default = models.BooleanField(_("default"), default=False, db_default=False)
    is_active = models.BooleanField(_("accepts new tenants"), default=True, db_default=True)
    created_at = models.DateTimeField(_("created"), db_default=SqlNow(), editable=False)
    # Where the server's write-ahead log is archived, a folder or s3://bucket/prefix: point-in-time restores read it.
    wal_archive = models.TextField(_("WAL archive"), blank=True, default="", db_default="")
    # The restore_command of another tool (pgBackRest, Barman, WAL-G), with %f and %p. If it is set, restores use it
    # instead of `wal_archive`.
    wal_restore_command = models.TextField(_("restore command for WAL"), blank=True, default="", db_default="")
    # When this server's data was last recovered from a base backup and WAL, and found intact.
    recovery_verified_at = models.DateTimeField(_("recovery last verified"), null=True, editable=False)

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


def database_prefix() -> str:
    """Return the prefix of our databases' and roles' names; two installations on one server need different ones."""
    return str(settings.TENANT_DATABASE_PREFIX)
