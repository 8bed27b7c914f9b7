"""Summaries of all tenants' runs and calls in the control database, so that lists and sums need no other database.

They contain no input or output of a run; an error message is the only free text.
"""

from typing import ClassVar

from django.db import models

from tenants.models import Tenant


class RunSummary(models.Model):
    """The state of a run when it was last read from the tenant's database (`runs.summaries.summarize`)."""

    pk = models.CompositePrimaryKey("tenant_id", "run_id")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+", db_index=False)
    run_id = models.UUIDField()
    status = models.TextField()
    current_step = models.TextField(null=True)
    pause_cause = models.TextField(null=True)
    # The failed step and the beginning of its message; None unless the run has failed.
    error_step = models.TextField(null=True)
    error = models.TextField(null=True)
    # Whether a step's output was truncated because it reached the output limit.
    is_truncated = models.BooleanField()
    created_at = models.DateTimeField()
    # The run's version, which increases with each change of the run. An older state never replaces a newer one.
    updated_at = models.DateTimeField()
    # When the run was completed or failed; None before.
    ended_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "run_summaries"
        # It has no admin page.
        default_permissions: ClassVar = ()
        indexes: ClassVar = [
            models.Index(fields=["-updated_at"], name="run_summaries_newest"),
            models.Index(fields=["status", "-updated_at"], name="run_summaries_of_status"),
        ]

    def __str__(self) -> str:
        return f"{self.tenant_id} {self.run_id}"


class DailyCost(models.Model):
    """The cost of a tenant's ended calls that began on a day, by step and model (`runs.costs.summarize`)."""

    pk = models.CompositePrimaryKey("tenant_id", "day", "step", "provider", "model")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+", db_index=False)
    # The day on which the calls began, in UTC.
    day = models.DateField()
    step = models.TextField()
    provider = models.TextField()
    model = models.TextField()
    calls = models.IntegerField()
    # Of these, calls with unknown cost, and calls without a known price.
    unknown_calls = models.IntegerField()
    unpriced_calls = models.IntegerField()
    # {unit: tokens}, of settled calls.
    token_usage = models.JSONField()
    # US dollars: the cost of settled calls, without units that have no price (None if no cost is known); and the most
    # that the calls can have cost beyond that: an unknown call's bound, and what remains of an unpriced call's bound.
    cost_usd = models.DecimalField(max_digits=30, decimal_places=15, null=True)
    possible_usd = models.DecimalField(max_digits=30, decimal_places=15, null=True)

    class Meta:
        db_table = "daily_costs"
        # It has no admin page.
        default_permissions: ClassVar = ()
        indexes: ClassVar = [models.Index(fields=["day"], name="daily_costs_day")]

    def __str__(self) -> str:
        return f"{self.tenant_id} {self.day} {self.step} {self.provider}/{self.model}"
