"""Operations that staff requested in the admin, and that workers carry out."""

from __future__ import annotations

import uuid

from django.contrib.postgres.functions import RandomUUID
from django.db import models
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from config.base.fields import SqlNow


class RequestKind(models.TextChoices):
    BACKUP = "backup", _("backup")
    RESTORE = "restore", _("restore")
    UNDO = "undo", _("undo of a restore")
    COPY = "copy", _("copy to a new tenant")
    DRILL = "drill", _("restore drill")
    EXPORT = "export", _("export")
    DELETE = "delete", _("deletion")
    MIGRATE = "migrate", _("migration")
    # The app above registers what carries these out (`tenants.app_hooks`).
    PROMPT_COPY = "prompt_copy", _("copy of prompts")
    PROMPT_UNDO = "prompt_undo", _("undo of a copy of prompts")


class RequestStatus(models.TextChoices):
    """requested → running → done, failed, refused or unfinished; running → requested if a worker has to wait.

    refused: nothing was changed. unfinished: the operation began but did not end; recovering it makes the request
    `requested` again.
    """

    REQUESTED = "requested", _("waiting")
    RUNNING = "running", _("running")
    DONE = "done", _("done")
    FAILED = "failed", _("failed")
    REFUSED = "refused", _("refused")
    UNFINISHED = "unfinished", _("unfinished")


# Kinds that change tenants other than the request's own: `arguments["tenants"]` names them; None means all.
ABOUT_SEVERAL = (RequestKind.PROMPT_COPY, RequestKind.PROMPT_UNDO)
# A request in one of these states will be taken by a worker, or has been.
OPEN = (RequestStatus.REQUESTED, RequestStatus.RUNNING)


class OperationRequest(models.Model):
    """One operation on a tenant, or on the fleet, that a member of staff asked for.

    A worker holds it by a lease with a fencing token, as it holds a step. The operation itself is recorded as always
    (`TenantOperation`, `Backup`, `MigrationBatch`; a drill has no record), and its entries in the audit log have this
    request's id.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, db_default=RandomUUID(), editable=False)
    kind = models.TextField(_("operation"), choices=RequestKind)
    # "" for the fleet; for `ABOUT_SEVERAL`, the tenant that is copied from. Not a foreign key: the record outlives the
    # tenant.
    tenant_id = models.TextField(_("tenant"), db_default="")
    # What the service is called with: ids, times and switches, never secrets.
    arguments = models.JSONField(_("arguments"), default=dict)
    status = models.TextField(_("status"), choices=RequestStatus, db_default=RequestStatus.REQUESTED)
    # As in the audit log, such as "staff:ann", and the id of that account.
    requested_by = models.TextField(_("by"))
    requester_id = models.BigIntegerField(null=True, editable=False)
    reason = models.TextField(_("reason"), db_default="")
    # The approval by a second person that it used; None if none was necessary.
    approval_id = models.UUIDField(_("approval"), null=True)
    # The step that it has reached, and how many of `total` are done; 0 of 0 if that is unknown.
    step = models.TextField(_("step"), db_default="")
    done = models.IntegerField(db_default=0)
    total = models.IntegerField(db_default=0)
    # {"backup": id}, {"operation": id}, …: the records that it made.
    result = models.JSONField(_("result"), null=True)
    error_code = models.TextField(db_default="")
    error = models.TextField(_("error"), db_default="")
    requested_at = models.DateTimeField(_("requested"), db_default=SqlNow())
    # No worker takes it earlier; moved into the future if another process has locked the tenant or the fleet.
    due_at = models.DateTimeField(db_default=SqlNow())
    started_at = models.DateTimeField(_("started"), null=True)
    finished_at = models.DateTimeField(_("finished"), null=True)
    # The worker that holds it, until when, and the token that only its newest claim has.
    owner = models.TextField(_("worker"), db_default="")
    lease_until = models.DateTimeField(null=True)
    fence = models.IntegerField(db_default=0)
    # How many claims lapsed because their worker was lost.
    lost_workers = models.IntegerField(db_default=0)

    class Meta:
        db_table = "operation_requests"
        verbose_name = _("operation")
        verbose_name_plural = _("operations")
        ordering = ["-requested_at"]
        constraints = [
            # A second click, or a second tab.
            models.UniqueConstraint(
                fields=["tenant_id", "kind"],
                condition=models.Q(status__in=("requested", "running")),
                name="operation_requests_once",
            )
        ]
        indexes = [
            models.Index(fields=["tenant_id", "-requested_at"], name="operation_requests_of_tenant"),
            models.Index(
                fields=["due_at"],
                condition=models.Q(status__in=("requested", "running")),
                name="operation_requests_open",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.title}: {self.tenant_id}" if self.tenant_id else self.title

    @property
    def title(self) -> str:
        """Return the name of the requested operation, as a heading."""
        if self.kind == RequestKind.MIGRATE and self.arguments.get("dry_run"):
            return gettext("Migration of all tenants (dry run)")
        if self.kind == RequestKind.PROMPT_COPY and self.arguments.get("dry_run"):
            return gettext("Preview of a copy of prompts")
        names = {
            RequestKind.BACKUP: gettext("Backup"),
            RequestKind.RESTORE: gettext("Restore"),
            RequestKind.UNDO: gettext("Undo of a restore"),
            RequestKind.COPY: gettext("Clone to a new tenant"),
            RequestKind.DRILL: gettext("Restore drill"),
            RequestKind.EXPORT: gettext("Export"),
            RequestKind.DELETE: gettext("Deletion"),
            RequestKind.MIGRATE: gettext("Migration of all tenants"),
            RequestKind.PROMPT_COPY: gettext("Copy of prompts"),
            RequestKind.PROMPT_UNDO: gettext("Undo of a copy of prompts"),
        }
        return names[RequestKind(self.kind)]

    @property
    def is_open(self) -> bool:
        return self.status in OPEN
