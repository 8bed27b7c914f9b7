"""Files that operations read, and what went to standard output: an erasure must know where a tenant's data may be."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from config.base.fields import SqlNow


class FileRead(models.Model):
    """A file that a restore, a clone, an import, a verification or a drill read, and the tenant that it was read for.

    A backup or an export to standard output is recorded here too.

    The row is written before the content is used; the digest follows once the file has been read to its end. If the
    file is read again with the same content, the new row replaces the old one.
    """

    # Not a foreign key: the record outlives the tenant. A file from which another tenant was created has a row for
    # each.
    tenant_id = models.TextField(_("tenant"))
    identity = models.UUIDField(_("identity"))
    # "restore", "clone", "import", "verify" or "drill"; "backup" or "export" for what went to standard output.
    purpose = models.TextField(_("read for"))
    # As for backups: an absolute folder or s3://bucket/prefix, and the name in it; links are followed.
    place = models.TextField(_("place"))
    name = models.TextField(_("file"))
    # Standard input or output, or another pipe: there is nothing to look for later.
    is_stream = models.BooleanField(default=False, db_default=False)
    # The identity of the tenant whose data it holds, from its manifest or its content; None if unknown.
    holds = models.UUIDField(null=True)
    # The digest of the bytes as stored; "" until the file has been read to its end.
    sha256 = models.TextField("sha256", db_default="")
    size_bytes = models.BigIntegerField(_("size (bytes)"), null=True)
    user_id = models.TextField(_("by"))
    # The operation that read it, as in the audit log; an interrupted operation that read the same file keeps its own
    # row.
    operation_id = models.TextField(_("operation"), db_default="")
    # When it was last read.
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
