"""Files that people gave the product to read: an erasure has to know where else a tenant's data lies."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from config.base.fields import SqlNow


class FileRead(models.Model):
    """One file that a restore, an import, a verification or a drill read, and for which tenant.

    So is what a backup or an export wrote to standard output: nobody can look for that later either.

    Written before its content is used; the digest follows when it was read to its end. A file that is read again with
    the same content keeps its row.
    """

    # Plain values: the record outlives the tenant. A file that another tenant was made of has a row for each of them.
    tenant_id = models.TextField(_("tenant"))
    identity = models.UUIDField(_("identity"))
    # "restore", "clone", "import", "verify" or "drill"; "backup" or "export" for what went to standard output.
    purpose = models.TextField(_("read for"))
    # As for backups: an absolute folder or s3://bucket/prefix, and the name in it; links are followed.
    place = models.TextField(_("place"))
    name = models.TextField(_("file"))
    # Standard input or another pipe: there is nothing to look for later.
    is_stream = models.BooleanField(default=False, db_default=False)
    # The identity of the tenant whose data is in it: by its manifest, or by what came out of it. None: not known.
    holds = models.UUIDField(null=True)
    # Of all its bytes as they are stored, "" while it was not read to its end.
    sha256 = models.TextField("sha256", db_default="")
    size_bytes = models.BigIntegerField(_("size (bytes)"), null=True)
    user_id = models.TextField(_("by"))
    # Which reading it is, as the audit log has it: another of the same file, which was cut off, keeps its own row.
    operation_id = models.TextField(_("operation"), db_default="")
    # When it was read last.
    read_at = models.DateTimeField(_("read"), db_default=SqlNow())

    class Meta:
        db_table = "files_read"
        verbose_name = _("file that was read")
        verbose_name_plural = _("files that were read")
        ordering = ["-read_at"]
        indexes = [
            models.Index(fields=["identity"], name="files_read_of_tenant"),
            models.Index(fields=["place", "name"], name="files_read_by_file"),
        ]

    def __str__(self) -> str:
        return f"{self.place}/{self.name}"
