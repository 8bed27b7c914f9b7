"""Admin pages for the steps of a tenant's runs."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal, InvalidOperation

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from config.base.times import to_minute
from config.site.documents import as_document
from llm.prices.unit_names import NAMES, unit_name
from runs.admin.cells import (
    exact_usd,
    input_of,
    model_of,
    run_link,
    seconds_of,
    step_badge,
    units,
)
from runs.admin.filters import StepFilter
from runs.admin.page import RunPageAdmin
from runs.models import Step
from runs.presentation.cost import at_least
from runs.presentation.fallback import rerouted_text
from runs.presentation.finish import finish_text
from tenants.routing.context import current_alias


class StepAdmin(RunPageAdmin):
    audit_resource = "step"
    list_display = ("step", "run_link", "shown_status", "shown_model", "retry_count", "started_at", "seconds")
    list_filter = ("status", StepFilter, "started_at")
    show_full_result_count = False
    list_select_related = ("run",)
    search_fields = ("=run__id",)
    search_help_text = gettext_lazy("A run's id")
    ordering = ("-id",)
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("step", "run_link", "shown_status"),
                    ("llm_provider", "llm_model", "prompt"),
                    "shown_rerouted",
                    ("started_at", "shown_completed", "seconds"),
                    ("retry_count", "lease_owner", "lease_expires_at"),
                    ("version", "on_truncation", "is_truncated"),
                    "error_message",
                )
            },
        ),
        (gettext_lazy("Review"), {"fields": (("review", "approved_by", "shown_approved"), "review_comment")}),
        (
            gettext_lazy("Result"),
            {
                "fields": (
                    "summary",
                    "output_path",
                    "output_digest",
                    ("shown_cost", "shown_unpriced"),
                    ("shown_usage", "shown_prices"),
                    "shown_metrics",
                )
            },
        ),
    )

    def audit_names(self, request: HttpRequest, ids: Collection[str]) -> dict[str, str]:
        keys = [one for one in ids if one.isdecimal()]
        steps = Step.objects.using(current_alias()).filter(pk__in=keys).select_related("run") if keys else ()
        return {str(step.pk): f"{step.step} · {input_of(step.run, 'keyword') or step.run_id}" for step in steps}

    @admin.display(description=gettext_lazy("run"))
    def run_link(self, step: Step) -> SafeString:
        return run_link(step.run_id, input_of(step.run, "keyword"))

    @admin.display(description=gettext_lazy("status"), ordering="status")
    def shown_status(self, step: Step) -> SafeString:
        return step_badge(step)

    @admin.display(description=gettext_lazy("model"), ordering="llm_model")
    def shown_model(self, step: Step) -> str:
        return model_of(step)

    @admin.display(description=gettext_lazy("seconds"))
    def seconds(self, step: Step) -> str | None:
        return seconds_of(step)

    @admin.display(description=gettext_lazy("completed at"))
    def shown_completed(self, step: Step) -> str | None:
        return to_minute(step.completed_at) if step.completed_at else None

    @admin.display(description=gettext_lazy("approved at"))
    def shown_approved(self, step: Step) -> str | None:
        return to_minute(step.approved_at) if step.approved_at else None

    @admin.display(description=gettext_lazy("fallback"))
    def shown_rerouted(self, step: Step) -> str | None:
        return rerouted_text(step=step.step, status=step.status, route=model_of(step), rerouted=step.rerouted)

    @admin.display(description=gettext_lazy("token usage"))
    def shown_usage(self, step: Step) -> SafeString | None:
        return as_document(_by_unit(step.token_usage), label=_unit)

    @admin.display(description=gettext_lazy("prices (USD per 1,000 tokens)"))
    def shown_prices(self, step: Step) -> SafeString | None:
        """Return the step's pinned prices by unit; for steps of earlier releases, the two in their columns."""
        prices = step.prices
        if prices is None:
            columns = {"input": step.cost_per_1k_input_tokens, "output": step.cost_per_1k_output_tokens}
            prices = {unit: str(price) for unit, price in columns.items() if price is not None}
        if isinstance(prices, dict):
            prices = {unit: _price(price) for unit, price in prices.items()}
        return as_document(_by_unit(prices), label=_unit)

    @admin.display(description=gettext_lazy("cost (USD)"))
    def shown_cost(self, step: Step) -> str | None:
        cost, is_least = exact_usd(step.cost.llm_cost), bool(step.cost.unpriced_tokens)
        return at_least(cost, is_least) if cost else _("unknown") if is_least else None

    @admin.display(description=gettext_lazy("tokens without a price"))
    def shown_unpriced(self, step: Step) -> str | None:
        return units(step.cost.unpriced_tokens)

    @admin.display(description=gettext_lazy("metrics"))
    def shown_metrics(self, step: Step) -> SafeString | None:
        metrics = step.metrics
        if isinstance(metrics, dict) and isinstance(metrics.get("finish_reason"), str):
            metrics = {**metrics, "finish_reason": finish_text(metrics["finish_reason"])}
        counted = step.token_usage if isinstance(step.token_usage, dict) else {}
        return as_document(metrics, hidden={f"{unit}_tokens" for unit in counted})


def _by_unit(document: object) -> object:
    """Return the document with its units in the usual order (`NAMES`), and its other keys after them."""
    if not isinstance(document, dict):
        return document
    order = [*NAMES]
    return dict(sorted(document.items(), key=lambda one: order.index(one[0]) if one[0] in order else len(order)))


def _price(price: object) -> object:
    """Format a price, which is stored as a string; return any other value, such as a number of tokens, unchanged."""
    try:
        return exact_usd(Decimal(price)) if isinstance(price, str) else price
    except InvalidOperation:
        return price


def _unit(name: str) -> str:
    return capfirst(unit_name(name))
