"""Runs, steps, calls, artifacts, costs and step overrides in a tenant's database.

Columns beyond the specification follow a marker comment. The rows are the source of truth; a Celery message is only a
wake-up (see `runs.messages.sending`).
"""

from typing import ClassVar

from django.contrib.postgres.functions import RandomUUID
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from config.base.fields import SerialField, SqlNow
from llm.models import ModelClass, OnTruncation
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


class PauseCause(models.TextChoices):
    """Why a run is paused."""

    PERSON = "person", _("paused by a person")
    HOLD = "hold", _("created on hold")
    REVIEW = "review", _("waiting for a review")
    BUDGET = "budget", _("budget reached")


class CallStatus(models.TextChoices):
    """Whether a call is in progress or, once it has ended, whether the tokens that it used are known."""

    OPEN = "open", _("in progress")
    SETTLED = "settled", _("settled")
    # Its outcome is unknown: the worker was lost, or the provider broke off the reply. It may have been billed.
    UNKNOWN = "unknown", _("unknown")


# A run with one of these statuses is waiting for a worker or has one.
WORKING = (RunStatus.PENDING, RunStatus.RUNNING)


class Run(models.Model):
    id = models.UUIDField(primary_key=True, db_default=RandomUUID(), editable=False)
    status = models.TextField(_("status"), choices=RunStatus)
    # The step that is next, is running or has failed; None once the run is completed.
    current_step = models.TextField(_("current step"), null=True, blank=True)
    # A `runs.config.RunConfig` document.
    config = models.JSONField(_("configuration"), null=True, blank=True)
    created_at = models.DateTimeField(_("created"), db_default=SqlNow())
    # Set by a trigger (migration 0005).
    updated_at = models.DateTimeField(_("updated"), db_default=SqlNow())
    # -- beyond the specification --
    # These three are set while the run is paused.
    pause_cause = models.TextField(_("pause cause"), choices=PauseCause, null=True, blank=True)
    # The actor, as in the audit log.
    paused_by = models.TextField(_("paused by"), null=True, blank=True)
    paused_at = models.DateTimeField(_("paused"), null=True, blank=True)
    # Whether the control database's summary of this run is up to date (`runs.summaries.summarize`).
    # The trigger of migration 0005 clears it with every change.
    is_summarized = models.BooleanField(db_default=False)

    class Meta:
        db_table = "runs"
        verbose_name = _("run")
        verbose_name_plural = _("runs")
        ordering: ClassVar = ["-created_at"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(status__in=RunStatus.values), name="runs_status_check"),
            models.CheckConstraint(condition=Q(pause_cause__in=PauseCause.values), name="runs_pause_cause_check"),
        ]
        indexes: ClassVar = [
            models.Index(F("created_at").desc(), name="runs_newest"),
            models.Index(fields=["created_at"], condition=Q(status__in=WORKING), name="runs_working"),
            models.Index(fields=["updated_at"], condition=Q(is_summarized=False), name="runs_unsummarized"),
        ]

    def __str__(self) -> str:
        return str(self.pk)


class Step(models.Model):
    """One step of a run. Its prompt and model are pinned when the run is created; a fallback may replace the model."""

    id = SerialField(primary_key=True)
    run = models.ForeignKey(Run, verbose_name=_("run"), on_delete=models.PROTECT, related_name="steps", db_index=False)
    step = models.TextField(_("step"))
    status = models.TextField(_("status"), choices=StepStatus)
    llm_model = models.TextField(_("model"), null=True, blank=True)
    # Tokens by unit (`llm.types.TokenUsage.as_document`): the sum over all settled calls.
    token_usage = models.JSONField(_("token usage"), null=True, blank=True)
    # The last failure; kept during retries, cleared when the step completes.
    error_message = models.TextField(_("error"), null=True, blank=True)
    # Attempts that failed. Those lost with their worker count in `lost_count`.
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
    # {"input_tokens", "output_tokens", "characters", "size_bytes", "finish_reason", "llm_seconds", "adopted"}
    metrics = models.JSONField(_("metrics"), null=True, blank=True)
    # Fencing token: increases with every claim; only the holder of the current one may change the step.
    lease_token = models.IntegerField(db_default=0)
    lease_expires_at = models.DateTimeField(_("lease until"), null=True, blank=True)
    lease_owner = models.TextField(_("worker"), null=True, blank=True)
    # A step that is waiting for a retry is not due before this time.
    not_before = models.DateTimeField(_("not before"), null=True, blank=True)
    # When the sweep will send the next wake-up (None until it has sent the first), and how many it has sent since the
    # last claim (see `runs.steps.sweep`).
    wake_after = models.DateTimeField(null=True, blank=True)
    wake_count = models.IntegerField(db_default=0)
    # Attempts in a row that were lost with their worker.
    lost_count = models.IntegerField(_("lost attempts"), db_default=0)
    # The first failure since the step was last started anew; the time budget for retries runs from here.
    failing_since = models.DateTimeField(_("failing since"), null=True, blank=True)
    # Increases each time the step is run again from the start (`run retry --from`). Older outputs stay in the storage.
    version = models.IntegerField(_("version"), db_default=1)
    # The run pauses before this step until someone approves it.
    review = models.BooleanField(_("review before this step"), db_default=False)
    approved_at = models.DateTimeField(_("approved"), null=True, blank=True)
    # The actor, as in the audit log.
    approved_by = models.TextField(_("approved by"), null=True, blank=True)
    # What a reviewer wants changed: the variable `review_comment` of the next attempt's prompt.
    review_comment = models.TextField(_("review comment"), null=True, blank=True)
    on_truncation = models.TextField(
        _("if the output is truncated"), choices=OnTruncation, default=OnTruncation.RETRY, db_default=OnTruncation.RETRY
    )
    # The output limit of the next call, once it was raised after a truncated reply; None: `output_limit` applies.
    max_output_tokens = models.IntegerField(_("output limit (tokens)"), null=True, blank=True)
    # Whether the output was truncated: at the output limit, or because the context window was full.
    is_truncated = models.BooleanField(_("truncated"), db_default=False)
    # The prices of the first claim by unit (`llm.types.ModelPrices`), exact; `cost_per_1k_…` hold two of them, rounded.
    # None: not claimed yet, or claimed by an earlier release, which kept only those two and counted by totals.
    prices = models.JSONField(_("prices"), null=True, blank=True)
    # The tenant's own output limit, pinned when the run was created; None: the model's.
    output_limit = models.IntegerField(_("own output limit (tokens)"), null=True, blank=True)
    # [{"provider", "model"}], in order: what the step uses instead if its model cannot be called
    # (`runs.steps.fallbacks`). Each is removed when it is used.
    fallbacks = models.JSONField(_("fallbacks"), null=True, blank=True)
    # {"from": "provider/model", "reason"}: the route before the present one, and why the step left it
    # (`runs.types.ReroutedDocument`); None: the step has the route that the run was created with.
    rerouted = models.JSONField(_("rerouted"), null=True, blank=True)

    class Meta:
        db_table = "steps"
        verbose_name = _("step")
        verbose_name_plural = _("steps")
        ordering: ClassVar = ["run", "position"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(status__in=StepStatus.values), name="steps_status_check"),
            models.CheckConstraint(
                condition=Q(on_truncation__in=OnTruncation.values), name="steps_on_truncation_check"
            ),
            models.UniqueConstraint(fields=["run", "step"], name="steps_run_id_step_key"),
        ]

    def __str__(self) -> str:
        return self.step


class Call(models.Model):
    """One request to a provider. The row is committed before the request is sent."""

    id = SerialField(primary_key=True)
    run = models.ForeignKey(Run, verbose_name=_("run"), on_delete=models.PROTECT, related_name="calls", db_index=False)
    step = models.ForeignKey(
        Step, verbose_name=_("step"), on_delete=models.PROTECT, related_name="calls", db_index=False
    )
    # The step's version and attempt, and the fencing token of the claim that made the call.
    version = models.IntegerField(_("version"))
    attempt = models.IntegerField(_("attempt"))
    lease_token = models.IntegerField()
    llm_provider = models.TextField(_("provider"))
    llm_model = models.TextField(_("model"))
    status = models.TextField(_("status"), choices=CallStatus)
    # The provider's id of the request, if it sent one.
    request_id = models.TextField(_("request id"), null=True, blank=True)
    # Tokens by unit, as on the step; None unless the call is settled.
    token_usage = models.JSONField(_("token usage"), null=True, blank=True)
    # The most that the call can have used: an upper bound of the prompt, and the output limit.
    max_input_tokens = models.IntegerField()
    max_output_tokens = models.IntegerField()
    finish_reason = models.TextField(_("finish reason"), null=True, blank=True)
    # The code of the error (`config.base.errors`), if the call failed.
    error_code = models.TextField(_("error"), null=True, blank=True)
    started_at = models.DateTimeField(_("started"), db_default=SqlNow())
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)
    # US dollars, set by a trigger (migration 0007_budgets): the most that the call can cost (None if a price is
    # unknown) and, once it is settled, what the units with known prices cost (None if no price is known).
    bound_usd = models.DecimalField(_("upper bound (USD)"), max_digits=30, decimal_places=15, null=True, blank=True)
    cost_usd = models.DecimalField(_("cost (USD)"), max_digits=30, decimal_places=15, null=True, blank=True)
    # The call used a unit without a known price, which `cost_usd` does not contain.
    is_unpriced = models.BooleanField(db_default=False)
    # Whether the control database's daily costs contain the call as it is (`runs.costs.summarize`).
    # The trigger of migration 0007_daily_costs clears it with every change of the status.
    is_summarized = models.BooleanField(db_default=False)

    class Meta:
        db_table = "calls"
        verbose_name = _("call")
        verbose_name_plural = _("calls")
        ordering: ClassVar = ["id"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(status__in=CallStatus.values), name="calls_status_check"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["step"], name="calls_step"),
            models.Index(fields=["run"], name="calls_run"),
            models.Index(fields=["started_at"], condition=Q(status=CallStatus.OPEN), name="calls_open"),
            models.Index(fields=["started_at"], name="calls_started"),
            models.Index(fields=["id"], condition=Q(is_summarized=False), name="calls_unsummarized"),
        ]

    def __str__(self) -> str:
        return str(self.pk)


class Spending(models.Model):
    """What the calls that began in a month have cost, and may still cost, in US dollars.

    A trigger on `calls` updates the row in each transaction that begins or ends a call (migration 0007_budgets). It
    locks the row, so calls of a month are compared with the budget one after the other.
    """

    # No DELETE: the sums stay correct only if no row is removed.
    database_privileges = ("SELECT", "INSERT", "UPDATE")

    # The first day of the month, in UTC.
    month = models.DateField(_("month"), primary_key=True)
    # The upper bounds of calls in progress.
    reserved_usd = models.DecimalField(_("reserved (USD)"), max_digits=30, decimal_places=15, db_default=0)
    # The upper bounds of calls whose outcome is unknown, because they may have been billed; and what is left of the
    # bounds of settled calls that used a unit without a price.
    possible_usd = models.DecimalField(_("possibly spent (USD)"), max_digits=30, decimal_places=15, db_default=0)
    # The costs of settled calls.
    spent_usd = models.DecimalField(_("spent (USD)"), max_digits=30, decimal_places=15, db_default=0)
    # Calls for which a price is missing; the sums contain them only in part, or not at all.
    unpriced_calls = models.IntegerField(_("calls without a price"), db_default=0)
    # When the budget's warning threshold was reached; there is one warning per month.
    warned_at = models.DateTimeField(_("warned"), null=True, blank=True)

    class Meta:
        db_table = "spending"
        verbose_name = _("spending")
        verbose_name_plural = _("spending")
        ordering: ClassVar = ["-month"]

    def __str__(self) -> str:
        return f"{self.month:%Y-%m}"


class Artifact(models.Model):
    """A generated file. The storage holds its content; the row holds its path and sha256."""

    id = SerialField(primary_key=True)
    run = models.ForeignKey(
        Run, verbose_name=_("run"), on_delete=models.PROTECT, related_name="artifacts", db_index=False
    )
    step = models.TextField(_("step"))
    file_type = models.TextField(_("type"))
    file_path = models.TextField(_("path"))
    digest = models.TextField(_("SHA-256"), null=True, blank=True)
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
        return self.file_path.rpartition("/")[2]


class StepCost(models.Model):
    """A row of the view `step_costs` (migration 0006); one per step."""

    # The tenant role's privileges on the view (see tenants.schema.template).
    database_privileges = ("SELECT",)

    step = models.OneToOneField(
        Step, verbose_name=_("step"), primary_key=True, on_delete=models.DO_NOTHING, related_name="cost"
    )
    run = models.ForeignKey(Run, verbose_name=_("run"), on_delete=models.DO_NOTHING, related_name="step_costs")
    # US dollars, exact, for the units with known prices; None if the step used none of these.
    llm_cost = models.DecimalField(_("cost (USD)"), max_digits=38, decimal_places=15, null=True)
    # {unit: tokens} without a price; None if everything has one.
    unpriced_tokens = models.JSONField(_("tokens without a price"), null=True)
    token_usage = models.JSONField(_("token usage"), null=True)

    class Meta:
        managed = False
        db_table = "step_costs"
        verbose_name = _("cost of a step")
        verbose_name_plural = _("costs of steps")

    def __str__(self) -> str:
        return str(self.step_id)


class StepOverride(models.Model):
    """What new runs of this tenant use for a step in place of the pipeline's default. An empty column changes nothing.

    A run's configuration takes precedence over an override.
    """

    step = models.TextField(_("step"), primary_key=True)
    llm_provider = models.TextField(_("provider"), null=True, blank=True)
    model_class = models.TextField(_("class"), choices=ModelClass, null=True, blank=True)
    # By name; it has precedence over the class.
    llm_model = models.TextField(_("model"), null=True, blank=True)
    # Capped at the model's own limit.
    output_limit = models.PositiveIntegerField(_("output limit (tokens)"), null=True, blank=True)

    class Meta:
        db_table = "step_overrides"
        verbose_name = _("step override")
        verbose_name_plural = _("step overrides")
        ordering: ClassVar = ["step"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(model_class__in=ModelClass.values), name="step_overrides_class_check"),
        ]

    def __str__(self) -> str:
        return self.step


class RunCost(models.Model):
    """A row of the view `run_costs` (migration 0006); one per run with steps."""

    # The tenant role's privileges on the view (see tenants.schema.template).
    database_privileges = ("SELECT",)

    run = models.OneToOneField(
        Run, verbose_name=_("run"), primary_key=True, on_delete=models.DO_NOTHING, related_name="cost"
    )
    # US dollars, exact: the cost of all tokens with a known price; None if there are none.
    total_llm_cost = models.DecimalField(_("cost (USD)"), max_digits=38, decimal_places=15, null=True)
    total_input_tokens = models.BigIntegerField(_("input tokens"), null=True)
    total_output_tokens = models.BigIntegerField(_("output tokens"), null=True)
    # Steps that used tokens at an unknown price. If this is not 0, the cost is a lower bound.
    unpriced_steps = models.BigIntegerField(_("steps without a price"))
    # Calls that may have been billed but whose outcome is unknown, and the most that those with known prices can have
    # cost (USD). None of it is in `total_llm_cost`.
    unknown_calls = models.BigIntegerField(_("calls with unknown cost"))
    unknown_cost_limit = models.DecimalField(
        _("upper limit of the unknown cost (USD)"), max_digits=38, decimal_places=15, null=True
    )
    # {unit: tokens} over all steps: tokens without a price (None if there are none), and all tokens by unit.
    unpriced_tokens = models.JSONField(_("tokens without a price"), null=True)
    tokens_by_unit = models.JSONField(_("tokens by unit"))

    class Meta:
        managed = False
        db_table = "run_costs"
        verbose_name = _("cost")
        verbose_name_plural = _("costs")

    def __str__(self) -> str:
        return str(self.run_id)
