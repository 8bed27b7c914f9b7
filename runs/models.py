"""Runs, steps and artifacts in a tenant's database. Columns beyond the specification follow a marker comment.

The rows are the source of truth; a Celery message is only a wake-up (see `runs.messages.sending`).
"""

from typing import ClassVar

from django.contrib.postgres.functions import RandomUUID
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from config.base.fields import SerialField, SqlNow
from prompts.models import Prompt


class RunStatus(models.TextChoices):
    PENDING = "pending", _("pending")
    RUNNING = "running", _("running")
    PAUSED = "paused", _("paused")
    COMPLETED = "completed", _("completed")
    FAILED = "failed", _("failed")


class StepStatus(models.TextChoices):
    PENDING = "pending", _("pending")
    RUNNING = "running", _("running")
    COMPLETED = "completed", _("completed")
    FAILED = "failed", _("failed")


# A run with one of these statuses waits for a worker or has one.
WORKING = (RunStatus.PENDING, RunStatus.RUNNING)


class Run(models.Model):
    id = models.UUIDField(primary_key=True, db_default=RandomUUID(), editable=False)
    status = models.TextField(_("status"), choices=RunStatus)
    # The step that is next, is running or has failed; None once the run is completed.
    current_step = models.TextField(_("current step"), null=True, blank=True)
    # A `runs.config.RunConfig` document.
    config = models.JSONField(_("configuration"), null=True, blank=True)
    created_at = models.DateTimeField(_("created"), db_default=SqlNow())
    # Set by a trigger (migration 0002).
    updated_at = models.DateTimeField(_("updated"), db_default=SqlNow())

    class Meta:
        db_table = "runs"
        verbose_name = _("run")
        verbose_name_plural = _("runs")
        ordering: ClassVar = ["-created_at"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(status__in=RunStatus.values), name="runs_status_check"),
        ]
        indexes: ClassVar = [
            models.Index(F("created_at").desc(), name="runs_newest"),
            models.Index(fields=["created_at"], condition=Q(status__in=WORKING), name="runs_working"),
        ]

    def __str__(self) -> str:
        return str(self.pk)


class Step(models.Model):
    """One step of a run. Its model and prompt are pinned when the run is created; its prices, at the first claim."""

    id = SerialField(primary_key=True)
    run = models.ForeignKey(Run, verbose_name=_("run"), on_delete=models.PROTECT, related_name="steps", db_index=False)
    step = models.TextField(_("step"))
    status = models.TextField(_("status"), choices=StepStatus)
    llm_model = models.TextField(_("model"), null=True, blank=True)
    # {"input": tokens, "output": tokens}, including failed attempts.
    token_usage = models.JSONField(_("token usage"), null=True, blank=True)
    # The last failure; kept during retries, cleared when the step completes.
    error_message = models.TextField(_("error"), null=True, blank=True)
    retry_count = models.IntegerField(_("retries"), db_default=0)
    # When the step was first claimed; None until then.
    started_at = models.DateTimeField(_("started"), null=True, blank=True, db_default=SqlNow())
    completed_at = models.DateTimeField(_("completed"), null=True, blank=True)
    # -- beyond the specification --
    position = models.IntegerField(_("position"), db_default=0)
    llm_provider = models.TextField(_("provider"), null=True, blank=True)
    cost_per_1k_input_tokens = models.DecimalField(
        _("input price per 1k tokens"), max_digits=10, decimal_places=6, null=True, blank=True
    )
    cost_per_1k_output_tokens = models.DecimalField(
        _("output price per 1k tokens"), max_digits=10, decimal_places=6, null=True, blank=True
    )
    prompt = models.ForeignKey(
        Prompt,
        verbose_name=_("prompt"),
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,
    )
    output_path = models.TextField(_("output"), null=True, blank=True)
    output_digest = models.TextField(_("output's sha256"), null=True, blank=True)
    summary = models.TextField(_("summary"), null=True, blank=True)
    # {"input_tokens", "output_tokens", "characters", "size_bytes", "llm_seconds", "adopted"}
    metrics = models.JSONField(_("metrics"), null=True, blank=True)
    # Fencing token: increases with every claim; only the holder of the current one may change the step.
    lease_token = models.IntegerField(db_default=0)
    lease_expires_at = models.DateTimeField(_("lease until"), null=True, blank=True)
    lease_owner = models.TextField(_("worker"), null=True, blank=True)
    # A step that waits for a retry is not due before this time.
    not_before = models.DateTimeField(_("not before"), null=True, blank=True)
    # When the sweep sends the next wake-up (None: it has sent none yet), and how many it has sent since the last claim
    # (see `runs.services.sweep`).
    wake_after = models.DateTimeField(null=True, blank=True)
    wake_count = models.IntegerField(db_default=0)

    class Meta:
        db_table = "steps"
        verbose_name = _("step")
        verbose_name_plural = _("steps")
        ordering: ClassVar = ["run", "position"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(status__in=StepStatus.values), name="steps_status_check"),
            models.UniqueConstraint(fields=["run", "step"], name="steps_run_id_step_key"),
        ]

    def __str__(self) -> str:
        return self.step


class Artifact(models.Model):
    """A generated file. The storage holds its content; the row holds its path and sha256."""

    id = SerialField(primary_key=True)
    run = models.ForeignKey(
        Run, verbose_name=_("run"), on_delete=models.PROTECT, related_name="artifacts", db_index=False
    )
    step = models.TextField(_("step"))
    file_type = models.TextField(_("type"))
    file_path = models.TextField(_("path"))
    digest = models.TextField(_("sha256"), null=True, blank=True)
    metadata = models.JSONField(_("metadata"), null=True, blank=True)
    created_at = models.DateTimeField(_("created"), db_default=SqlNow())

    class Meta:
        db_table = "artifacts"
        verbose_name = _("artifact")
        verbose_name_plural = _("artifacts")
        ordering: ClassVar = ["id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "file_path"], name="artifacts_run_id_file_path_key"),
        ]

    def __str__(self) -> str:
        return self.file_path


class RunCost(models.Model):
    """A row of the view `run_costs` (migration 0002); one per run with steps."""

    # The tenant role's privileges on the view (see tenants.schema.template).
    database_privileges = ("SELECT",)

    run = models.OneToOneField(
        Run, verbose_name=_("run"), primary_key=True, on_delete=models.DO_NOTHING, related_name="cost"
    )
    # US dollars, over the steps with known prices; None if no price is known.
    total_llm_cost = models.DecimalField(_("cost (USD)"), max_digits=20, decimal_places=9, null=True)
    total_input_tokens = models.BigIntegerField(_("input tokens"), null=True)
    total_output_tokens = models.BigIntegerField(_("output tokens"), null=True)
    # Steps that used tokens at an unknown price. If this is not 0, the cost is a lower bound.
    unpriced_steps = models.BigIntegerField(_("steps without a price"))

    class Meta:
        managed = False
        db_table = "run_costs"
        verbose_name = _("cost")
        verbose_name_plural = _("costs")

    def __str__(self) -> str:
        return str(self.run_id)
