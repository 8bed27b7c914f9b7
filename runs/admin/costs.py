"""Admin pages for what a tenant's runs cost."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet, Sum
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy

from config.site.admin_base import (
    ReadOnlyAdmin,
)
from runs.admin.cells import (
    count,
    exact_usd,
    input_of,
    money,
    run_link,
    units,
)
from runs.models import RunCost


class RunCostAdmin(ReadOnlyAdmin):
    audit_resource = "run"
    list_display = ("run_link", "created_at", "input_tokens", "cached_tokens", "output_tokens", "shown_cost")
    list_display_links = None
    list_filter = ("run__created_at", "run__status")
    list_select_related = ("run",)
    ordering = ("-run__created_at",)
    fields = (
        *("run_link", "input_tokens", "output_tokens", "shown_units", "shown_cost", "exact_cost", "shown_unpriced"),
        *("unpriced_steps", "unknown_calls", "unknown_cost_limit"),
    )
    list_before_template = "admin/run_cost_totals.html"

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        page: Any = super().get_changelist_instance(request)
        page.totals = _totals(page.queryset)
        return page

    @admin.display(description=gettext_lazy("input tokens"), ordering="total_input_tokens")
    def input_tokens(self, cost: RunCost) -> str | None:
        return count(cost.total_input_tokens)

    @admin.display(description=gettext_lazy("cached input"))
    def cached_tokens(self, cost: RunCost) -> str | None:
        return count(cost.tokens_by_unit.get("cached_read"))

    @admin.display(description=gettext_lazy("token breakdown"))
    def shown_units(self, cost: RunCost) -> str | None:
        return units(cost.tokens_by_unit)

    @admin.display(description=gettext_lazy("tokens without a price"))
    def shown_unpriced(self, cost: RunCost) -> str | None:
        return units(cost.unpriced_tokens)

    @admin.display(description=gettext_lazy("exact cost (USD)"))
    def exact_cost(self, cost: RunCost) -> str | None:
        return exact_usd(cost.total_llm_cost)

    @admin.display(description=gettext_lazy("output tokens"), ordering="total_output_tokens")
    def output_tokens(self, cost: RunCost) -> str | None:
        return count(cost.total_output_tokens)

    @admin.display(description=gettext_lazy("run"))
    def run_link(self, cost: RunCost) -> SafeString:
        return run_link(cost.run_id, input_of(cost.run, "keyword"))

    @admin.display(description=gettext_lazy("created"), ordering="run__created_at")
    def created_at(self, cost: RunCost) -> object:
        return cost.run.created_at

    @admin.display(description=gettext_lazy("cost (USD)"), ordering="total_llm_cost")
    def shown_cost(self, cost: RunCost) -> str | None:
        return money(cost.total_llm_cost, cost.unpriced_steps, cost.unknown_calls)


def _totals(costs: QuerySet[RunCost]) -> dict[str, str | None]:
    """Return the sums of the costs that match a list's filters, on all its pages."""
    totals = costs.order_by().aggregate(
        cost=Sum("total_llm_cost"),
        input_tokens=Sum("total_input_tokens"),
        output_tokens=Sum("total_output_tokens"),
        unpriced=Sum("unpriced_steps"),
        unknown=Sum("unknown_calls"),
    )
    return {
        "cost": money(totals["cost"], totals["unpriced"] or 0, totals["unknown"] or 0),
        "input_tokens": count(totals["input_tokens"]),
        "output_tokens": count(totals["output_tokens"]),
    }
